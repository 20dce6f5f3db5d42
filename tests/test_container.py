"""A container comes back equal or is refused; a failed write changes nothing."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from ftrl_engine import container
from ftrl_engine.errors import ConfigError, CorruptFileError, DataError

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", ">f8", ">i4"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
KEYS = TEXT.filter(lambda key: key not in ("kind", "container", "checksum") and not key.endswith('"checksum'))
ARRAYS = st.dictionaries(
    TEXT,
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    max_size=4,
)


def _small(path: Path) -> bytes:
    arrays: dict[str, NDArray[Any]] = {"z": np.array([1.5, -2.0]), "on": np.array([True, False, True])}
    container.write(path, "checkpoint", arrays, {"rows": "17", "schema": 'label = "é"\n'})
    return path.read_bytes()


def _content(array: NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


@given(arrays=ARRAYS, metadata=st.dictionaries(KEYS, TEXT, max_size=4), kind=TEXT)
def test_what_is_written_comes_back(
    arrays: dict[str, NDArray[Any]], metadata: dict[str, str], kind: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "17.safetensors"
        before = {key: array.tobytes() for key, array in arrays.items()}
        size = container.write(path, kind, arrays, metadata)
        assert size == path.stat().st_size
        back, text = container.read(path, kind)
        assert text == metadata == container.read_metadata(path, kind)
        assert {key: array.tobytes() for key, array in arrays.items()} == before
        assert back.keys() == arrays.keys()
        for key, array in arrays.items():
            assert back[key].dtype == array.dtype.newbyteorder("<")
            assert back[key].shape == array.shape
            assert back[key].tobytes() == _content(array)
            assert back[key].flags.writeable
            assert back[key].flags.c_contiguous
        plain = load_file(path)
        assert {key: array.tobytes() for key, array in plain.items()} == {
            key: _content(array) for key, array in arrays.items()
        }


def test_any_memory_layout_is_written_in_c_order(tmp_path: Path) -> None:
    table = np.arange(24, dtype=np.float64).reshape(4, 6)
    arrays: dict[str, NDArray[Any]] = {"fortran": np.asfortranarray(table), "strided": table[::2, ::-3]}
    container.write(tmp_path / "a", "snapshot", arrays, {})
    back, _ = container.read(tmp_path / "a", "snapshot")
    np.testing.assert_array_equal(back["fortran"], table)
    np.testing.assert_array_equal(back["strided"], table[::2, ::-3])


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {name: np.arange(3.0) for name in "zyxab"} | {"n": np.arange(3)}
    metadata = {name: name * 2 for name in "qwertyuiop"}
    container.write(tmp_path / "a", "checkpoint", arrays, metadata)
    for turn in range(3):
        turned = dict(reversed(arrays.items())) if turn % 2 else arrays
        other = dict(sorted(metadata.items(), reverse=bool(turn % 2)))
        container.write(tmp_path / "b", "checkpoint", turned, other)
        assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_arrays_stand_aligned_to_their_items(tmp_path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "a": np.ones(3, np.uint8),
        "b": np.ones(3, np.float32),
        "c": np.ones(1),
    }
    size = container.write(tmp_path / "a", "snapshot", arrays, {})
    with safe_open(tmp_path / "a", framework="np") as file:
        assert file.offset_keys() == ["c", "b", "a"]
    assert (size - (8 + 12 + 3)) % 8 == 0


def test_the_checksum_is_the_documented_one(tmp_path: Path) -> None:
    data = _small(tmp_path / "a")
    with safe_open(tmp_path / "a", framework="np") as file:
        metadata = file.metadata()
    assert metadata["kind"] == "checkpoint"
    assert metadata["container"] == "1"
    digits = metadata["checksum"].encode()
    assert xxhash.xxh3_128_hexdigest(data.replace(digits, b"0" * 32)) == metadata["checksum"]


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "17.safetensors"
    good = _small(path)
    damaged = bytearray(good)
    for bit in range(len(good) * 8):
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"17\.safetensors"):
            container.read(path, "checkpoint")
        damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    assert container.read(path, "checkpoint")[1]["rows"] == "17"


def test_every_cut_and_every_tail_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "17.safetensors"
    good = _small(path)
    for damaged in [good[:length] for length in range(len(good))] + [good + b"\0", good + good]:
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"17\.safetensors"):
            container.read(path, "checkpoint")


@given(start=st.integers(0, 300), junk=st.binary(min_size=1, max_size=40))
def test_overwritten_bytes_are_refused(start: int, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a"
        good = _small(path)
        damaged = good[:start] + junk + good[start + len(junk) :]
        path.write_bytes(damaged)
        if damaged == good:
            assert container.read(path, "checkpoint")[1]["rows"] == "17"
        else:
            with pytest.raises(CorruptFileError):
                container.read(path, "checkpoint")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\x10", "cut short"),
        ((400).to_bytes(8, "little") + b"{" * 20, "cut short"),
        (b"label\tI1\tI2\n" * 10, "not a container"),
        ((2).to_bytes(8, "little") + b"{}", "not a container"),
        ((20).to_bytes(8, "little") + b'{"__metadata__":{}} ', "does not hold kind"),
        ((50_000).to_bytes(8, "little") + b"[" * 50_000, "not a container"),
    ],
)
def test_the_refusal_says_what_is_wrong(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "17.safetensors"
    path.write_bytes(content)
    for read in (container.read, container.read_metadata):
        with pytest.raises(CorruptFileError, match=reason) as caught:
            read(path, "checkpoint")
        assert str(path) in str(caught.value)


def test_another_kind_or_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    good = _small(path)
    for read in (container.read, container.read_metadata):
        with pytest.raises(CorruptFileError, match="is a checkpoint, and a snapshot is needed"):
            read(path, "snapshot")
    path.write_bytes(good.replace(b'"container":"1"', b'"container":"2"'))
    for read in (container.read, container.read_metadata):
        with pytest.raises(CorruptFileError, match="version '2'"):
            read(path, "checkpoint")


def test_read_metadata_does_not_read_the_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    good = _small(path)
    path.write_bytes(good[:-1])
    assert container.read_metadata(path, "checkpoint")["rows"] == "17"


def test_a_missing_file_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        container.read(tmp_path / "nothing", "checkpoint")


@pytest.mark.parametrize(
    ("arrays", "metadata", "error", "reason"),
    [
        ({"when": np.array(["2020-01-01"], "M8[D]")}, {}, DataError, "'when' has dtype datetime64"),
        ({"any": np.array([None])}, {}, DataError, "'any' has dtype object"),
        ({"big": np.ones(1, np.complex128)}, {}, DataError, "'big' has dtype complex128"),
        ({"__metadata__": np.ones(1)}, {}, ConfigError, "'__metadata__' is reserved"),
        ({}, {"kind": "x"}, ConfigError, "'kind' is set by the container"),
        ({}, {"a": "\ud800"}, ConfigError, "must be Unicode text"),
        ({}, {'a"checksum': "0" * 32}, ConfigError, "no metadata key may end in"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_writing(
    tmp_path: Path, arrays: dict[str, Any], metadata: dict[str, str], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        container.write(tmp_path / "a", "checkpoint", arrays, metadata)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def _no_room_beyond(size: int) -> Iterator[None]:
    """Let the kernel refuse any write past ``size`` bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 100, 5000])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, room: int) -> None:
    path = tmp_path / "17.safetensors"
    old = _small(path)
    with _no_room_beyond(room), pytest.raises(OSError, match=r"17\.safetensors"):
        container.write(path, "checkpoint", {"z": np.zeros(100_000)}, {})
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_target_that_cannot_be_replaced_is_named(tmp_path: Path) -> None:
    path = tmp_path / "17.safetensors"
    path.mkdir()
    with pytest.raises(OSError, match=r"17\.safetensors"):
        container.write(path, "checkpoint", {"z": np.zeros(3)}, {})
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        container.write(tmp_path / "nowhere" / "a", "checkpoint", {}, {})


WRITER = """
import sys
from pathlib import Path
import numpy as np
from ftrl_engine import container
path = Path(sys.argv[1])
for turn in range(1_000_000):
    container.write(path, "checkpoint", {"z": np.full(200_000, float(turn))}, {"turn": str(turn)})
    if turn == 1:
        print("ready", flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.013, 0.037])
def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "17.safetensors"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
    arrays, metadata = container.read(path, "checkpoint")
    assert np.all(arrays["z"] == float(metadata["turn"]))
    assert list(tmp_path.glob("*.safetensors")) == [path]


def test_leftovers_of_a_crash_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "17.safetensors"
    leftover = tmp_path / f".tmp-{os.getpid()}-17"
    leftover.write_bytes(b"half of a file" * 1000)
    _small(path)
    assert container.read(path, "checkpoint")[1]["rows"] == "17"
    assert not leftover.exists()
