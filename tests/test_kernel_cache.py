"""What was compiled is kept on disk, comes back unharmed, and is open to those who may read it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ftrl_engine import kernels
from ftrl_engine.jit import COMPILED
from ftrl_engine.kernels import Kernel

pytestmark = pytest.mark.skipif(not COMPILED, reason="runs with NUMBA_DISABLE_JIT")


def add(a: int, b: int) -> int:
    return a + b


def test_code_that_was_damaged_on_disk_is_compiled_again(tmp_path: Path) -> None:
    first: Any = Kernel(add, {}, tmp_path)
    assert (first(1, 2), first.compiled, first.read) == (3, 1, 0)
    (file,) = tmp_path.glob("*.o")
    good = file.read_bytes()
    for damaged in (b"", good[:100], good[:-1], good[:200] + bytes([good[200] ^ 1]) + good[201:]):
        file.write_bytes(damaged)
        again: Any = Kernel(add, {}, tmp_path)
        assert (again(3, 4), again.compiled, again.read) == (7, 1, 0)
        assert file.read_bytes() != damaged
    last: Any = Kernel(add, {}, tmp_path)
    assert (last(5, 6), last.compiled, last.read) == (11, 0, 1)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_whom_the_umask_lets_read_may_read_what_was_compiled(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        Kernel(add, {}, tmp_path)(1, 2)
    finally:
        os.umask(before)
    (file,) = tmp_path.glob("*.o")
    assert file.stat().st_mode & 0o777 == mode
    assert not list(tmp_path.glob(".new-*"))


def test_compiled_code_that_may_not_be_read_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each start compiles and nobody knows why."""
    Kernel(add, {}, tmp_path)(1, 2)
    (file,) = tmp_path.glob("*.o")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(kernels, "_warned", [])
    monkeypatch.setattr(Path, "read_bytes", refuse)
    again: Any = Kernel(add, {}, tmp_path)
    with pytest.warns(RuntimeWarning, match="may not read.*chmod -R a.rX") as said:
        assert again(3, 4) == 7
    assert str(file) in str(said[0].message)
    assert len(said) == 1
    assert again.compiled == 1
    assert Kernel(add, {}, tmp_path)(5, 6) == 11


def test_a_directory_that_vanished_does_not_matter(tmp_path: Path) -> None:
    lost: Any = Kernel(add, {}, tmp_path / "gone")
    assert lost(1, 2) == 3
