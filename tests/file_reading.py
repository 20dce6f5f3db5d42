"""What the tests of reading files share: files of every compression, and how to read them whole."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from streams.source import Block, Refusal, Source, SourceOptions, open_source

MARK = b"\xef\xbb\xbf"

Packer = Callable[[bytes], bytes]


def in_parts(pack: Packer) -> Packer:
    """Two members or frames one after the other, the first of them cut anywhere."""
    return lambda data: pack(data[: len(data) // 3]) + pack(data[len(data) // 3 :])


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def zstd_blocks(data: bytes) -> bytes:
    """One frame of many blocks."""
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    parts = [
        packer.compress(data[i : i + 5000]) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for i in range(0, len(data), 5000)
    ]
    return b"".join(parts) + packer.flush()


PACKERS: dict[str, Packer] = {
    "": lambda data: data,
    ".gz": in_parts(lambda data: gzip.compress(data, mtime=0)),
    ".zst": in_parts(zst),
}


TEXT = b"".join(b"%d\tvalue %d\t%x\n" % (i, i * i % 977, i * 7919 % 65537) for i in range(3000))


def options(**given: Any) -> SourceOptions:
    return SourceOptions(**({"columns_known": True} | given))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def blocks_of(source: Any) -> Iterator[Block]:
    while not source.finished:
        block = source.poll(0)
        if block is not None:
            yield block


def records_of(block: Block) -> list[bytes]:
    return [block.record(i) for i in range(len(block))]


@contextlib.contextmanager
def opened(
    uri: str | Path | Sequence[str], positions: Mapping[str, int] | None = None, **given: Any
) -> Iterator[Source]:
    """The source, closed in the end."""
    uri = str(uri) if isinstance(uri, Path) else uri
    with contextlib.closing(open_source(uri, positions, options(**given))) as source:
        yield source


def read(
    uri: str | Path | Sequence[str], positions: Mapping[str, int] | None = None, **given: Any
) -> tuple[list[bytes], list[Refusal], dict[str, int]]:
    """(records, refusals, positions at the end)."""
    with opened(uri, positions, **given) as source:
        blocks = list(blocks_of(source))
        refused = [refusal for block in blocks for refusal in block.refused]
        return [record for block in blocks for record in records_of(block)], refused, source.positions()


def oracle(text: bytes) -> list[bytes]:
    """The records of a content, by Python's own splitting."""
    return [record for line in text.split(b"\n") if (record := line.removesuffix(b"\r"))]


def whole_lines(text: bytes) -> list[bytes]:
    return oracle(text[: text.rfind(b"\n") + 1])
