"""Compiled code is never stale, needs no writable disk, and reads bytes as Python does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import ftrl_engine
from ftrl_engine import jit
from ftrl_engine.decimals import read_decimal
from ftrl_engine.hashing import hash_bytes
from ftrl_engine.intrinsics import load32, load64, trailing_zeros
from ftrl_engine.jit import COMPILED, kernel

PACKAGE = Path(ftrl_engine.__file__).parent

needs_compiler = pytest.mark.skipif(not COMPILED, reason="runs with NUMBA_DISABLE_JIT")

# `score_rows` calls `sigmoid`, which another file holds.
REPORT = """
import json, sys
import numpy as np
from ftrl_engine import jit
cold = jit.cache_is_cold()
from ftrl_engine.weight_table import make_table, score_rows
values, table = np.zeros(1), make_table(np.empty(0, np.uint32), np.empty(0, np.float32))
score_rows(
    np.zeros(2, np.int64), np.empty(0, np.uint32), np.empty(0), np.zeros(1, np.uint8),
    *table, 0.0, values, True,
)
json.dump({
    "value": values[0], "cold": cold, "compiled": jit.COMPILED,
    "cache": jit.CACHE and str(jit.CACHE), "hits": getattr(score_rows, "read", None),
    "home": jit.__file__,
}, sys.stdout)
"""


def run(folder: Path, script: str = REPORT, **environment: str) -> Any:
    """What the script prints in a process of its own that sees the packages in ``folder`` first."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A directory with a copy of the package."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@needs_compiler
def test_kernels_of_versions_long_unused_are_removed(tmp_path: Path) -> None:
    month = 30 * 86_400
    now = tmp_path.stat().st_mtime
    for name, age in (("0" * 20, 2 * month), ("1" * 20, month / 2), ("other", 2 * month)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (now - age, now - age))
    code = "from ftrl_engine import jit; print(jit.CACHE.name)"
    environment = os.environ | {"FTRL_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert {path.name for path in tmp_path.iterdir()} == {"1" * 20, "other", done.stdout.decode().strip()}


@needs_compiler
def test_a_changed_helper_reaches_its_callers_and_the_rest_comes_from_disk(copied: Path) -> None:
    cache = {"FTRL_CACHE_DIR": str(copied / "cache")}
    first = run(copied, **cache)
    assert first["home"] == str(copied / "ftrl_engine" / "jit.py")
    assert (first["value"], first["cold"], first["hits"]) == (0.5, True, 0)
    second = run(copied, **cache)
    assert (second["value"], second["cold"], second["hits"]) == (0.5, False, 1)
    assert second["cache"] == first["cache"]
    helper = copied / "ftrl_engine" / "losses.py"
    before = helper.read_text()
    helper.write_text(before.replace("return (1.0 if", "return (3.0 if"))
    assert helper.read_text() != before
    third = run(copied, **cache)
    assert (third["value"], third["hits"]) == (1.5, 0)
    assert third["cache"] != first["cache"]


@needs_compiler
def test_checkouts_with_equal_sources_share_what_was_compiled(copied: Path, tmp_path: Path) -> None:
    cache = {"FTRL_CACHE_DIR": str(tmp_path / "cache")}
    other = tmp_path / "other"
    shutil.copytree(copied / PACKAGE.name, other / PACKAGE.name)
    first, second = run(copied, **cache), run(other, **cache)
    assert (first["hits"], second["hits"]) == (0, 1)
    assert first["home"] != second["home"]


@needs_compiler
def test_processes_that_need_a_kernel_at_the_same_time_compile_it_once(copied: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        cache = {"FTRL_CACHE_DIR": str(copied / "cache")}
        found = list(pool.map(lambda _: run(copied, **cache), range(3)))
    assert [one["value"] for one in found] == [0.5] * 3
    assert sorted(one["hits"] for one in found) == [0, 1, 1]


@needs_compiler
def test_every_file_that_compiles_is_part_of_the_cache_key(copied: Path) -> None:
    script = """
import json, pathlib, sys
from ftrl_engine import jit
ignored = []
for path in sorted(pathlib.Path("ftrl_engine").rglob("*.py")):
    text = path.read_text()
    if "ftrl_engine.jit import" in text or path.name == "jit.py":
        before = jit._digest_of_sources()
        path.write_text(text + "# changed")
        if jit._digest_of_sources() == before:
            ignored.append(str(path))
json.dump(ignored, sys.stdout)
"""
    assert run(copied, script) == []


@needs_compiler
def test_where_no_cache_can_be_written_kernels_compile_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a directory")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("FTRL_CACHE_DIR", str(path))
        assert jit._find_cache() is None
    found = run(PACKAGE.parent)
    assert (found["value"], found["cache"], found["cold"], found["hits"]) == (0.5, None, True, 0)
    assert (tmp_path / "file").read_text() == "not a directory"


@contextmanager
def another_user() -> Iterator[None]:
    """Without root's right to go everywhere; others have no such right."""
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(12345)
        yield
    finally:
        if root:
            os.seteuid(0)


@needs_compiler
@pytest.mark.parametrize("variable", ["FTRL_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
def test_where_another_user_may_not_go_there_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("FTRL_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    monkeypatch.setenv(variable, str(closed / "below"))
    digest = jit._digest_of_sources()
    monkeypatch.setattr(jit, "_digest_of_sources", lambda: digest)
    with another_user():
        assert jit._find_cache() is None


@needs_compiler
def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FTRL_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987_654)
    assert jit._find_cache() is None


@needs_compiler
def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("FTRL_CACHE_DIR", raising=False)
    by_default = jit._find_cache()
    assert by_default is not None
    assert by_default.parent == tmp_path / "xdg" / "ftrl_engine"
    monkeypatch.setenv("FTRL_CACHE_DIR", str(tmp_path / "own"))
    chosen = jit._find_cache()
    assert chosen is not None
    assert (chosen.parent, chosen.name) == (tmp_path / "own", by_default.name)
    assert by_default.is_dir()
    assert chosen.is_dir()


@needs_compiler
def test_without_the_compiler_everything_runs_as_plain_python(tmp_path: Path) -> None:
    script = REPORT.replace(
        '"home"', '"hash": __import__("ftrl_engine.hashing").hashing.hash_bytes(b"a shop", 7), "home"'
    )
    plain = run(PACKAGE.parent, script, NUMBA_DISABLE_JIT="1", FTRL_CACHE_DIR=str(tmp_path / "cache"))
    assert (plain["value"], plain["compiled"], plain["cache"], plain["hits"]) == (0.5, False, None, None)
    assert plain["hash"] == hash_bytes(b"a shop", 7)
    assert not (tmp_path / "cache").exists()


@kernel
def words_at(data: NDArray[np.uint8], i: int, words: NDArray[np.uint64]) -> None:
    words[0] = load64(data, i)
    words[1] = np.uint64(load32(data, i))


@kernel
def zeros_below(word: np.uint64) -> int:
    zeros: int = trailing_zeros(word)
    return zeros


@given(st.binary(min_size=8, max_size=40), st.data())
def test_words_are_read_little_endian_at_any_address(data: bytes, draw: st.DataObject) -> None:
    i = draw.draw(st.integers(0, len(data) - 8))
    words = np.zeros(2, dtype=np.uint64)
    words_at(np.frombuffer(data, dtype=np.uint8).copy(), i, words)
    assert int(words[0]) == int.from_bytes(data[i : i + 8], "little")
    assert int(words[1]) == int.from_bytes(data[i : i + 4], "little")


@given(st.integers(0, 63), st.integers(0, 2**64 - 1))
def test_trailing_zeros_counts_the_zeros_below_the_lowest_one(place: int, above: int) -> None:
    word = ((above | 1) << place) & (2**64 - 1)
    assert zeros_below(np.uint64(word)) == place


digits = st.text("0123456789", min_size=1, max_size=40) | st.integers(0, 900).map(lambda n: "0" * n + "7")
signs = st.sampled_from(["", "-", "+"])
exponents = st.just("") | st.builds(
    "{}{}{}".format, st.sampled_from("eE"), signs, st.integers(0, 400) | st.integers(0, 10**30)
)
decimals = st.builds(
    lambda sign, whole, rest, exponent: sign + whole + rest + exponent,
    signs,
    digits,
    st.just("") | st.just(".") | digits.map(lambda text: "." + text),
    exponents,
)


@given(decimals | st.floats(allow_nan=False, allow_infinity=False).map(repr))
@example("9007199254740993")
@example("9007199254740993." + "0" * 900 + "1")
@example("2.2250738585072011e-308")
@example("4.9406564584124654e-324")
@example("2.4703282292062327e-324")
@example("1.7976931348623159e308")
@example("-0.0")
@example("1" + "0" * 1000 + "e-1000")
@example("." + "0" * 500 + "1e501")
def test_decimals_are_rounded_as_python_rounds_them(text: str) -> None:
    """Digits before and after the text belong to its neighbours and must not be read."""
    data = np.frombuffer(b"9" + text.encode() + b"9e9", dtype=np.uint8).copy()
    found, expected = float(read_decimal(data, 1, 1 + len(text))), float(text)
    assert found == expected
    assert np.signbit(found) == np.signbit(expected)


@needs_compiler
def test_a_read_only_cache_is_read(copied: Path) -> None:
    """As in an image that was warmed up when it was built; whoever runs the tests may write everywhere."""
    cache = {"FTRL_CACHE_DIR": str(copied / "cache")}
    run(copied, **cache)
    read_only = """
import os, pathlib
def refuse(*args, **keywords):
    raise PermissionError(30, "Read-only file system")
os.utime = os.replace = pathlib.Path.mkdir = refuse
"""
    assert run(copied, read_only + REPORT, **cache)["hits"] == 1
