"""Marks: a file that was replaced or rewritten is refused where learning would have gone on in it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine import container
from ftrl_engine.errors import SourceError
from streams.checkpoint import KIND
from streams.marks import WINDOW, Mark, mark_before
from tests.file_reading import PACKERS, TEXT, blocks_of, opened, oracle, read, write

LEARN = [sys.executable, "-m", "ftrl_engine", "learn"]
OTHER = TEXT.replace(b"value", b"other")  # with every line end where it was
assert len(OTHER) == len(TEXT)
assert len(TEXT) > 8 * WINDOW


@given(st.sampled_from(list(PACKERS)), st.integers(0, 2999), st.integers(1, 20_000))
def test_what_is_the_same_is_recognized_at_every_position(suffix: str, record: int, block_bytes: int) -> None:
    ends = [at + 1 for at in range(len(TEXT)) if TEXT[at] == 10]
    with tempfile.TemporaryDirectory() as name:
        # What is appended later changes nothing before it.
        path = write(Path(name) / "a.tsv", PACKERS[suffix](TEXT[: ends[record]]))
        at = {str(path.resolve()): ends[record]}
        with opened(path) as source:
            marks = source.marks(at)
        assert len(marks) == 1
        write(path, PACKERS[suffix](TEXT))
        with opened(path) as source:
            assert source.marks(at) == marks
        assert read(path, at, marks=marks, block_bytes=block_bytes)[0] == oracle(TEXT)[record + 1 :]


@pytest.mark.parametrize("suffix", PACKERS)
def test_another_file_with_a_line_end_there_is_refused(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "a.tsv", PACKERS[suffix](TEXT))
    for position in (TEXT.index(b"\n") + 1, TEXT.index(b"\n2000") + 1, len(TEXT)):
        at = {str(path): position}
        write(path, PACKERS[suffix](TEXT))
        with opened(path) as source:
            marks = source.marks(at)
        write(path, PACKERS[suffix](OTHER))
        with pytest.raises(SourceError, match=rf"a\.tsv: position {position} no longer follows") as caught:
            read(path, at, marks=marks)
        assert "learn into a new model directory" in str(caught.value)
        assert read(path, at)[0] == oracle(OTHER[position:]), "without a mark it is as it was"


def test_a_file_that_was_rewritten_just_before_the_position_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", TEXT)
    at = {str(path): TEXT.index(b"\n2000") + 1}
    with opened(path) as source:
        marks = source.marks(at)
    for changed in (at[str(path)] - 3, at[str(path)] - WINDOW):
        write(path, TEXT[:changed] + b"?" + TEXT[changed + 1 :])
        with pytest.raises(SourceError, match="no longer follows"):
            read(path, at, marks=marks)
    write(path, TEXT[: at[str(path)] - 5])
    with pytest.raises(SourceError, match="is beyond its end"):
        read(path, at, marks=marks)


def test_marks_are_of_all_files_that_can_be_read_again(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.vw", TEXT) for i in range(3)]
    with opened(tmp_path / "*.vw") as source:
        list(blocks_of(source))
        paths[0].unlink()
        write(paths[1], TEXT[:50])
        marks = source.marks(source.positions() | {"/elsewhere.vw": 10})
    assert list(marks) == [str(paths[2])]
    assert mark_before(str(paths[2]), 0) is None
    assert mark_before(str(tmp_path), 10) is None
    mark = mark_before(str(paths[2]), len(TEXT))
    assert mark is not None
    assert (mark, mark.start) == (Mark.of(str(mark)), len(TEXT) - WINDOW)


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"

    def put(first: int) -> None:
        parquet.write_table(pa.table({"x": list(range(first, first + 1000))}), path)

    put(0)
    at = {str(path): 600}
    with opened(path) as source:
        marks = source.marks(at)
    put(0)
    assert len(read(path, at, marks=marks)[0]) == 400
    put(1)
    assert len(read(path, at)[0]) == 400
    with pytest.raises(SourceError, match=r"a\.parquet: position 600 is of another file"):
        read(path, at, marks=marks)


# What is learned.


def events(word: str) -> bytes:
    lines = (json.dumps({"label": i % 3 == 0, "user": f"{word}{i % 7}"}).encode() for i in range(1000, 1400))
    return b"".join(line + b"\n" for line in lines)


def learn(path: Path, model: Path, *more: str, status: int = 0) -> str:
    done = subprocess.run(
        [*LEARN, str(path), "--model", str(model), "--json", *more], capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def newest(model: Path) -> Path:
    return max((model / "checkpoints").glob("*.safetensors"), key=lambda path: int(path.stem))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_learning_does_not_go_on_in_another_file(tmp_path: Path, suffix: str) -> None:
    path, model = tmp_path / f"e.jsonl{suffix}", tmp_path / "model"
    write(path, PACKERS[suffix](events("u")))
    assert json.loads(learn(path, model, "--limit", "100"))["rows"] == 100
    before = newest(model).read_bytes()
    write(path, PACKERS[suffix](events("v")))
    (line,) = learn(path, model, status=1).splitlines()
    assert f"{path}: position" in line
    assert newest(model).read_bytes() == before
    write(path, PACKERS[suffix](events("u") + events("w")))
    assert json.loads(learn(path, model))["rows"] == 700


def test_a_checkpoint_of_before_there_were_marks_is_accepted(tmp_path: Path) -> None:
    path, model = write(tmp_path / "e.jsonl", events("u")), tmp_path / "model"
    learn(path, model, "--limit", "100")
    saved = newest(model)
    arrays, metadata = container.read(saved, KIND)
    assert json.loads(metadata["marks"]).keys() == {str(path)}
    own = ("kind", "marks")
    container.write(saved, KIND, arrays, {k: v for k, v in metadata.items() if k not in own})
    result = json.loads(learn(path, model))
    assert result["rows"] == 300
    assert result["positions"] == {str(path): len(events("u"))}
    assert "marks" in container.read(newest(model), KIND)[1]


def test_passes_that_are_interrupted_end_in_the_same_bytes(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.jsonl", events("u")), write(tmp_path / "b.jsonl", events("v"))]
    pattern = tmp_path / "*.jsonl"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    learn(pattern, whole, "--passes", "2")
    learn(pattern, parts, "--passes", "2", "--limit", "100")
    for _ in range(3):
        learn(pattern, parts, "--limit", "450")
    learn(pattern, parts)
    assert newest(parts).read_bytes() == newest(whole).read_bytes()
    marks = json.loads(container.read(newest(whole), KIND)[1]["marks"])
    assert marks.keys() == {f"{path}{suffix}" for path in paths for suffix in ("", "#pass2")}
    copied = tmp_path / "copied"
    shutil.copytree(whole, copied)
    write(paths[0], events("x"))
    assert "no longer follows" in learn(pattern, copied, status=1)
