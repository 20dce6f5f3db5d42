"""Simulated events as files of one directory, each made when it is first asked for."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.contenders.base import CRITEO_FIELDS
from bench.hashed_rows import HashedRows, slots_of
from streams.text_columns import Column, join_rows, numerals

if TYPE_CHECKING:
    from streams.simulate_criteo import CriteoRows

BLOCK_ROWS = 16_384
MAX_PROCESSES = 8
_LIBSVM_BITS = 22
_GZIP_LEVEL = 6  # of the gzip command


@dataclass(frozen=True, slots=True)
class Inputs:
    """The directory and the seed of the simulation; equal seeds give equal files."""

    directory: Path
    seed: int = 0
    say: Callable[[str], None] = lambda text: None

    def criteo(self, form: str, rows: int) -> Path:
        """Rows of the Criteo log in one of the forms of :func:`criteo_text`."""
        return self._file(f"criteo.{form}", rows, partial(criteo_text, self.seed, form))

    def criteo_gzip(self, rows: int) -> Path:
        """The same as ``tsv``, compressed at the usual level."""
        plain = self.criteo("tsv", rows)
        path = plain.with_name(plain.name + ".gz")
        if not path.exists():
            self.say(f"compressing {plain.name}")
            with _whole(path) as part, open(plain, "rb") as text, gzip.open(part, "wb", _GZIP_LEVEL) as file:
                shutil.copyfileobj(text, file, 1 << 20)
        return path

    def clicks(self, format: str, rows: int) -> Path:
        """Events of the simulated click stream as ``jsonl`` or ``csv``."""
        return self._file(f"clicks.{format}", rows, partial(clicks_text, self.seed, format))

    def hashed(self, rows: int, bits: int) -> Path:
        """A directory of hashed rows of 39 features."""
        make = partial(HashedRows.simulate, self.seed, rows, bits)
        return self._rows(f"hashed-{rows}-{bits}", f"{rows:,} hashed rows, 2^{bits} slots", make)

    def spread(self, rows: int, bits: int, features: int) -> Path:
        """A directory of hashed rows of so many features, which fall anywhere in the table."""
        make = partial(HashedRows.spread, self.seed, rows, bits, features)
        what = f"{rows:,} hashed rows of {features} features, 2^{bits} slots"
        return self._rows(f"spread-{rows}-{bits}-{features}", what, make)

    def _rows(self, name: str, what: str, make: Callable[[], HashedRows]) -> Path:
        path = self.directory / name
        if not path.exists():
            self.say(f"simulating {what}")
            with _whole(path) as part:
                make().save(part)
        return path

    def _file(self, name: str, rows: int, text: Callable[[int, int], bytes]) -> Path:
        """``text(index, rows)`` of every block; a shorter file is the beginning of a longer one."""
        path = self.directory / f"{rows}-{name}"
        if path.exists():
            return path
        longer = [other for other in self.directory.glob(f"*-{name}") if _rows_of(other) > rows]
        with _whole(path) as part, open(part, "wb") as file:
            if longer:
                header = name.endswith(".csv")
                with open(longer[0], "rb") as other:
                    file.writelines(islice(other, rows + header))
            else:
                self.say(f"simulating {rows:,} rows of {name}")
                file.writelines(_blocks(text, rows))
        return path


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes ``path`` once it is complete; what an error has cut short is removed."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.rename(path)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _rows_of(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _blocks(text: Callable[[int, int], bytes], rows: int) -> Iterator[bytes]:
    """The text of all blocks in order, on all cores."""
    counts = [min(BLOCK_ROWS, rows - first) for first in range(0, rows, BLOCK_ROWS)]
    processes = min(MAX_PROCESSES, os.cpu_count() or 1, len(counts))
    if processes <= 1:
        yield from map(text, range(len(counts)), counts)
        return
    # A forked process would inherit locks of threads; a spawned one starts clean.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        # A window of blocks bounds the memory.
        for start in range(0, len(counts), 4 * processes):
            part = counts[start : start + 4 * processes]
            yield from pool.map(text, range(start, start + len(part)), part)


def criteo_text(seed: int, form: str, index: int, rows: int) -> bytes:
    """The first ``rows`` rows of block ``index`` of the simulated Criteo log.

    tsv     as the log has them        jsonl   objects of up to 40 keys, missing values left out
    vw      counts in log buckets      libsvm  39 indices, those of :class:`HashedRows`
    """
    from streams.simulate_criteo import CriteoStream, to_criteo, to_criteo_vw

    part = CriteoStream(seed).block(index, BLOCK_ROWS).part(0, rows)
    if form == "vw":
        return to_criteo_vw(part)
    if form == "libsvm":
        return _libsvm(part)
    text = to_criteo(part)
    return text if form == "tsv" else b"".join(map(_json_line, text.splitlines()))


def _libsvm(part: CriteoRows) -> bytes:
    slots = slots_of(part, _LIBSVM_BITS).astype(np.int64)
    columns: list[Column] = [numerals(part.label, 1)]
    for k in range(slots.shape[1]):
        columns += [b" ", numerals(slots[:, k]), b":1"]
    return join_rows([*columns, b"\n"], len(part))


def _json_line(line: bytes) -> bytes:
    values = line.decode("ascii").split("\t")
    event: dict[str, str | int] = {}
    for at, (name, value) in enumerate(zip(CRITEO_FIELDS, values, strict=True)):
        if value:
            event[name] = int(value) if at < 14 else value
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def clicks_text(seed: int, format: str, index: int, rows: int) -> bytes:
    """The first ``rows`` events of block ``index`` of the simulated click stream."""
    from streams.simulate import ClickStream, to_csv, to_jsonl

    part = ClickStream(seed).block(index, BLOCK_ROWS).part(0, rows)
    return to_jsonl(part) if format == "jsonl" else to_csv(part, header=index == 0)
