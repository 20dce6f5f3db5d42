"""Compressed tables with a header line: damage ends the file, never the run."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftrl_engine.cli import main
from tests.file_reading import read, zstd_blocks

HEADER = b"label,user,item\n"
ROWS = b"".join(b"%d,u%d,i%d\n" % (i % 3 == 0, i * 7919 % 311, i % 97) for i in range(3000))
TABLE = HEADER + ROWS
PACKED = gzip.compress(TABLE, mtime=0)

Damaged = Callable[[], bytes]


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


CASES: dict[str, tuple[str, Damaged, str]] = {
    "cut": ("a.csv.gz", lambda: PACKED[:-4], "gzip data cut short after"),
    "checksum": ("a.csv.gz", lambda: flipped(PACKED, -6), "corrupt gzip data"),
    "middle": ("a.csv.gz", lambda: PACKED[: len(PACKED) // 2], "gzip data cut short after"),
    "garbage": ("a.csv.gz", lambda: PACKED + b"garbage", "corrupt gzip data"),
    "tabs": (
        "a.tsv.gz",
        lambda: gzip.compress(TABLE.replace(b",", b"\t"))[:-4],
        "gzip data cut short after",
    ),
    "zstd": ("a.csv.zst", lambda: zstd_blocks(TABLE)[:-9], "zstd data cut short after"),
}


def learned(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main(["learn", *map(str, words), "--bits", "14", "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_table_is_learned_up_to_the_damage(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, damaged, reason = CASES[case]
    path = tmp_path / name
    path.write_bytes(damaged())
    whole = len(read(path, columns_known=False)[0])
    result = learned(capsys, path, "--model", tmp_path / "m")
    assert (result["rows"], result["rejected"]) == (whole, 1)
    assert whole > 500
    kept = json.loads((tmp_path / "m" / "rejected.jsonl").read_text())
    assert kept["reason"].startswith(reason)
    assert main(["score", str(path), "--model", str(tmp_path / "m"), "--output", str(tmp_path / "s")]) == 0
    scores = (tmp_path / "s").read_text().split()
    assert (len(scores), scores.count("nan")) == (whole + 1, 1)


@pytest.mark.parametrize("first", [b"label,us", TABLE])
def test_the_table_after_a_damaged_one_is_learned(
    first: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "day-1.csv.gz").write_bytes(gzip.compress(first)[:-4])
    (tmp_path / "day-2.csv.gz").write_bytes(PACKED)
    whole = len(read(tmp_path / "day-1.csv.gz", columns_known=False)[0])
    days = tmp_path / "day-*.csv.gz"
    result = learned(capsys, days, "--model", tmp_path / "m")
    assert (result["rows"], result["rejected"]) == (whole + 3000, 1)
    # What comes later is learned too, though the damage is met again.
    (tmp_path / "day-3.csv.gz").write_bytes(PACKED)
    assert learned(capsys, days, "--model", tmp_path / "m")["rows"] == 3000


def test_a_table_that_was_cut_goes_on_where_it_is_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(PACKED[: len(PACKED) // 2])
    first = learned(capsys, path, "--model", tmp_path / "m")["rows"]
    path.write_bytes(PACKED)
    assert learned(capsys, path, "--model", tmp_path / "m")["rows"] == 3000 - first


def test_damage_is_told_and_is_no_failure_when_it_is_met_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cut.jsonl.gz"
    row = b'{"label": 1, "user": "u%d"}\n'
    path.write_bytes(gzip.compress(b"".join(row % i for i in range(3000)))[:-2000])
    words = ["learn", str(path), "--model", str(tmp_path / "m"), "--bits", "10"]
    warning = (
        f"warning: {path}: gzip data cut short after {path.stat().st_size} bytes; the whole events before"
    )
    for _ in range(2):
        assert main(words) == 0
        told = capsys.readouterr().err
        assert warning in told
        assert "were refused (" not in told
    assert main(["score", *words[1:4], "--output", str(tmp_path / "scores")]) == 0
    assert warning in capsys.readouterr().err
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    # Another file of which nothing can be read is a failure, again and again.
    path.rename(tmp_path / "other.jsonl.gz")
    path.write_bytes(gzip.compress(b"no line end")[:-4])
    words[1] = str(tmp_path / "new.jsonl.gz")
    path.rename(words[1])
    for _ in range(2):
        assert main([*words, "--quiet"]) == 1
        assert "all 1 events were refused (gzip data cut short" in capsys.readouterr().err


def test_damage_is_told_in_json_once_for_several_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(PACKED[:-4])
    for rows in (6000, 0):
        result = learned(capsys, path, "--model", tmp_path / "m", "--passes", "2")
        assert result["rows"] == rows
        (warning,) = result["warnings"]
        assert warning.startswith(f"{path}: gzip data cut short after")
