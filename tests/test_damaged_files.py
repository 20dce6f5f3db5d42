"""Compressed files: damage costs no complete record, and memory is bounded."""

from __future__ import annotations

import contextlib
import gzip
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.errors import SourceError
from streams import gzip_decoder
from streams.source import Refusal
from tests.file_reading import (
    TEXT,
    Packer,
    blocks_of,
    opened,
    oracle,
    read,
    whole_lines,
    write,
    zst,
    zstd_blocks,
)


def check_damaged(path: Path, kept: bytes, reason: str, repaired: bytes) -> None:
    """Whole records of ``kept``, one refusal; and nothing is lost or repeated after a repair."""
    records, refused, positions = read(path, block_bytes=20_000)
    lines = whole_lines(kept)
    assert records == lines
    (refusal,) = refused
    at = len(kept[: kept.rfind(b"\n") + 1])
    assert (refusal.partition, refusal.position, refusal.event) == (str(path), at, kept[at:])
    assert refusal.reason.startswith(reason)
    assert positions == {str(path): at}
    # Opened again it stands at the same place and says the same.
    assert read(path, positions)[:2] == ([], [refusal])
    write(path, repaired)
    assert read(path, positions)[:2] == (oracle(TEXT)[len(lines) :], [])


@given(st.data())
def test_a_cut_gzip_file_loses_no_complete_record(data: st.DataObject) -> None:
    packed = gzip.compress(TEXT[:30000], mtime=0) + gzip.compress(TEXT[30000:], mtime=0)
    cut = data.draw(st.integers(2, len(packed) - 1))
    exact, rest = zlib.decompressobj(31), packed[:cut]
    kept = exact.decompress(rest)
    if exact.eof:
        kept += zlib.decompressobj(31).decompress(exact.unused_data)
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name).resolve() / "a.tsv.gz", rest)
        if exact.eof and not exact.unused_data:
            assert read(path)[:2] == (whole_lines(kept), [])
        else:
            check_damaged(path, kept, f"gzip data cut short after {cut} bytes", packed)


@given(st.integers(min_value=12), st.integers(0, 7), st.sampled_from([500, 30000]))
def test_a_corrupt_gzip_file_loses_no_complete_record(at: int, bit: int, first: int) -> None:
    packed = bytearray(gzip.compress(TEXT, mtime=0))
    at = 12 + at % (len(packed) - 12)
    packed[at] ^= 1 << bit
    exact, kept = zlib.decompressobj(31), b""
    with contextlib.suppress(zlib.error):
        for i in range(len(packed)):
            kept += exact.decompress(packed[i : i + 1])
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name).resolve() / "a.tsv.gz", bytes(packed))
        records, refused, positions = read(path, block_bytes=first)
        assert records == whole_lines(kept)
        (refusal,) = refused
        # A flipped bit may also make a block longer than the file.
        assert refusal.reason.startswith(("corrupt gzip data: ", "gzip data cut short"))
        assert positions == {str(path): refusal.position}


def test_the_checksum_of_a_gzip_file_is_checked_after_its_records(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(TEXT, mtime=0))
    packed[-6] ^= 1
    path = write(tmp_path / "a.tsv.gz", bytes(packed))
    records, (refusal,), positions = read(path)
    assert records == oracle(TEXT)
    assert refusal == Refusal(
        str(path),
        len(TEXT),
        "corrupt gzip data: Error -3 while decompressing data: incorrect data check",
        b"",
    )
    assert positions == {str(path): len(TEXT)}


def test_what_may_follow_a_gzip_member(tmp_path: Path) -> None:
    packed = gzip.compress(TEXT)
    path = write(tmp_path / "a.tsv", packed + bytes(700) + packed + bytes(3))
    assert read(path)[:2] == (oracle(TEXT) * 2, [])
    write(path, packed + b"something else")
    records, (refusal,), _ = read(path)
    assert (len(records), refusal.reason) == (
        3000,
        "corrupt gzip data: what follows a member is not a member",
    )


@given(st.data())
def test_a_cut_zstd_file_loses_no_complete_record(data: st.DataObject) -> None:
    packed = zstd_blocks(TEXT[:30000]) + zstd_blocks(TEXT[30000:])
    boundary = len(zstd_blocks(TEXT[:30000]))
    cut = data.draw(st.integers(4, len(packed) - 1).filter(lambda at: at != boundary))
    kept = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(packed[:cut])
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name).resolve() / "a.tsv.zst", packed[:cut])
        check_damaged(path, kept, f"zstd data cut short after {cut} bytes", packed)


def test_a_corrupt_zstd_file_keeps_the_blocks_before_the_damage(tmp_path: Path) -> None:
    packed = bytearray(zstd_blocks(TEXT))
    packed[len(packed) * 2 // 3] ^= 0x55
    path = write(tmp_path / "a.tsv.zst", bytes(packed))
    records, (refusal,), positions = read(path)
    assert records == oracle(TEXT)[: len(records)]
    assert len(records) > 1500
    assert refusal.reason.startswith("corrupt zstd data: ")
    assert refusal.event != b""
    assert positions == {str(path): refusal.position}
    write(path, zstd_blocks(TEXT))
    assert records + read(path, positions)[0] == oracle(TEXT)


def test_zstd_frames_that_are_skipped_empty_or_too_large(tmp_path: Path) -> None:
    skippable = (0x184D2A57).to_bytes(4, "little") + (600_000).to_bytes(4, "little") + bytes(600_000)
    path = write(tmp_path / "a.tsv", skippable + zst(TEXT) + zst(b"") + skippable + zst(b"end\n") + skippable)
    assert read(path)[:2] == ([*oracle(TEXT), b"end"], [])
    write(path, zst(TEXT) + b"something else")
    assert [r.reason for r in read(path)[1]] == ["corrupt zstd data: what follows a frame is not a frame"]
    wide = zstandard.ZstdCompressionParameters(window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    write(path, packer.compress(b"a\n") + packer.flush())
    with pytest.raises(SourceError, match="zstd window of 268435456 bytes, over the limit of 134217728"):
        read(path)


def test_a_damaged_file_ends_and_the_next_one_is_read(tmp_path: Path) -> None:
    write(tmp_path / "1.tsv", gzip.compress(TEXT)[:-500])
    write(tmp_path / "2.tsv", b"next\n")
    records, refused, _ = read(tmp_path / "?.tsv")
    assert records[-1] == b"next"
    assert len(records) > 2000
    assert [Path(refusal.partition).name for refusal in refused] == ["1.tsv"]


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "1.csv", zstd_blocks(b"a,b")[:-4])
    records, (refusal,), _ = read(path, columns_known=False)
    assert (records, refusal.event, refusal.position) == ([], b"a,b", 0)


@pytest.mark.parametrize("pack", [gzip.compress, zst, zstd_blocks])
def test_memory_does_not_grow_with_the_content(tmp_path: Path, pack: Packer) -> None:
    path = write(tmp_path / "bomb.tsv", pack((b"a" * 999 + b"\n") * 60_000))
    tracemalloc.start()
    try:
        with opened(path, block_bytes=1 << 20) as source:
            rows = sum(len(block) for block in blocks_of(source))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 60_000
    assert peak < 12 << 20


@pytest.mark.parametrize("damage", ["cut", "corrupt"])
def test_damage_far_into_a_member(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzip_decoder, "_PIECE", 1000)
    monkeypatch.setattr(gzip_decoder, "_STRIDE", 7000)
    packed = bytearray(gzip.compress(TEXT, mtime=0))
    at = len(packed) * 9 // 10
    if damage == "cut":
        del packed[at:]
    else:
        packed[at : at + 40] = b"\xff" * 40
    exact, kept = zlib.decompressobj(31), []
    with contextlib.suppress(zlib.error):
        for i in range(len(packed)):
            kept.append(exact.decompress(packed[i : i + 1]))
    path = write(tmp_path / "a.tsv.gz", bytes(packed))
    records, (refusal,), positions = read(path)
    assert records == whole_lines(b"".join(kept))
    assert positions == {str(path): refusal.position}
    assert read(path, positions)[:2] == ([], [refusal])
    assert refusal.reason.startswith(f"{'gzip data cut short' if damage == 'cut' else 'corrupt gzip data'}")
