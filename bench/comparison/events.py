"""Events that were read and hashed once, to be learned from many times.

The arrays lie in files of a scratch directory and are mapped into memory, so that a log larger than
the memory can be compared on. Slots are renumbered in the order of their first appearance: every
learner treats all slots alike, so it learns the same model in a table that has no empty places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from ftrl_engine.errors import DataError
from streams.codecs.base import Codec
from streams.pipeline import Pipeline
from streams.source import Source

BATCH_ROWS = 8192
MAX_BYTES = 32 << 30  # of the scratch directory
_ARRAYS = {
    "lengths": np.int64,
    "slots": np.uint32,
    "labels": np.float64,
    "importance": np.float64,
    "valued": np.uint8,
    "values": np.float64,
}


@dataclass(frozen=True, slots=True)
class Events:
    """Rows in the order of the source.

    batch     all rows, mapped from the scratch directory
    slots     different slots in them; the batch has no others
    bits      what they were hashed to before they were renumbered
    digest    of labels, importance, slots and values: 16 hex digits, the same for the same events
    rejected  events that were refused and are not among the rows; reason: of the first one
    """

    batch: Batch
    bits: int
    digest: str
    rejected: int = 0
    reason: str = ""

    @property
    def slots(self) -> int:
        return self.batch.n_slots

    @property
    def labels(self) -> NDArray[np.float64]:
        """float64[rows] of 0 and 1."""
        labels = self.batch.labels
        assert labels is not None, "events without a label are refused"
        return labels

    @property
    def label_mean(self) -> float:
        """The mean label, by importance."""
        return float(np.average(self.labels, weights=self.batch.importance))

    def __len__(self) -> int:
        return len(self.batch)

    def head(self, rows: int) -> Events:
        """The first rows, sharing memory; they have a digest of their own."""
        if rows >= len(self):
            return self
        return replace(self, batch=self.batch.rows(0, rows), digest=f"{self.digest}-{rows}")

    def batches(self, order: NDArray[np.int64] | None = None) -> Iterator[tuple[NDArray[np.int64], Batch]]:
        """(row numbers, rows) in the order of the source, or in that of a permutation."""
        for start in range(0, len(self), BATCH_ROWS):
            stop = min(start + BATCH_ROWS, len(self))
            if order is None:
                yield np.arange(start, stop), self.batch.rows(start, stop)
            else:
                yield order[start:stop], _taken(self.batch, order[start:stop])

    def save(self, directory: Path, order: NDArray[np.int64] | None = None) -> None:
        """Write the arrays as .npy files into a new directory, for other programs."""
        directory.mkdir(parents=True)
        batch = self.batch if order is None else _taken(self.batch, order)
        for name in ("indptr", "slots", "labels", "importance", "values"):
            np.save(directory / f"{name}.npy", getattr(batch, name))


def _taken(batch: Batch, rows: NDArray[np.int64]) -> Batch:
    """The rows of those numbers, copied."""
    starts = batch.indptr[rows]
    lengths = batch.indptr[rows + 1] - starts
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    cells = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
    return _batch(
        indptr,
        batch.slots[cells],
        batch.labels[rows] if batch.labels is not None else np.zeros(len(rows)),
        batch.importance[rows],
        batch.valued[rows],
        batch.raw_values[cells] if len(batch.raw_values) else batch.raw_values,
        batch.n_slots,
    )


def _batch(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], labels: NDArray[np.float64],
    importance: NDArray[np.float64], valued: NDArray[np.uint8], values: NDArray[np.float64], n_slots: int,
) -> Batch:  # fmt: skip
    """A batch of arrays that a batch has checked before."""
    batch = Batch.__new__(Batch)
    batch.indptr, batch.slots, batch.labels, batch.importance = indptr, slots, labels, importance
    batch.valued, batch.raw_values, batch.n_slots = valued, values, n_slots
    return batch


def hash_events(
    source: Source,
    codec: Codec,
    scratch: Path,
    limit: int | None = None,
    report: Callable[[int, float | None], None] = lambda rows, fraction: None,
) -> Events:
    """Read a source to its end, or to ``limit`` rows, into the existing directory ``scratch``.

    Raises DataError where there is no row with a label, or more than MAX_BYTES of them.
    """
    writer = _Writer(scratch, codec.bits)
    try:
        with Pipeline(source, codec) as pipeline:
            for step in pipeline.steps():
                if step is None:
                    continue
                left = len(step.batch) if limit is None else limit - writer.rows
                if left < len(step.batch):
                    step = step.cut(left)
                if step.refused:
                    writer.refuse(len(step.refused), step.refused[0].reason)
                writer.add(step.batch)
                report(writer.rows, source.fraction())
                if writer.rows == limit:
                    break
    finally:
        writer.close()
    return writer.events()


class _Writer:
    """Appends batches to the files of a directory."""

    def __init__(self, directory: Path, bits: int) -> None:
        self._directory = directory
        self._bits = bits
        self._files: dict[str, IO[bytes]] = {
            name: open(directory / name, "wb")  # noqa: SIM115 - closed by close()
            for name in _ARRAYS
        }
        self._numbers = np.full(1 << bits, -1, dtype=np.int32)  # slot -> its new number
        self._slots = 0
        self._features = 0
        # One digest an array, so that it does not matter where the source was cut into batches.
        self._hashes = {name: hashlib.sha256() for name in _ARRAYS}
        self._rejected = 0
        self._reason = ""
        self.rows = 0

    def refuse(self, events: int, reason: str) -> None:
        self._rejected += events
        self._reason = self._reason or reason

    def add(self, batch: Batch) -> None:
        labels = batch.labels if batch.labels is not None else np.empty(0)
        arrays = {
            "lengths": np.diff(batch.indptr),
            "slots": self._renumbered(batch.slots),
            "labels": labels,
            "importance": batch.importance,
            "valued": batch.valued,
        }
        for name, array in arrays.items():
            self._write(name, array)
            self._hashes[name].update((batch.slots if name == "slots" else array).tobytes())
        if len(batch.raw_values):
            # What is skipped reads as zeros, and no row without values looks at it.
            self._files["values"].seek(self._features * 8)
            self._write("values", batch.raw_values)
            valued = np.repeat(batch.valued, np.diff(batch.indptr)) == 1
            self._hashes["values"].update(batch.raw_values[valued].tobytes())
        self.rows += len(batch)
        self._features += len(batch.slots)
        if self._features * 12 + self.rows * 25 > MAX_BYTES:
            raise DataError(
                f"the first {self.rows:,} events fill {MAX_BYTES >> 30} GiB, the most that is kept; "
                "compare on fewer with --limit N"
            )

    def _write(self, name: str, array: NDArray[Any]) -> None:
        self._files[name].write(np.ascontiguousarray(array, dtype=_ARRAYS[name]).tobytes())

    def _renumbered(self, slots: NDArray[np.uint32]) -> NDArray[np.uint32]:
        fresh = slots[self._numbers[slots] < 0]
        different, first = np.unique(fresh, return_index=True)
        ordered = different[np.argsort(first)]
        self._numbers[ordered] = np.arange(self._slots, self._slots + len(ordered), dtype=np.int32)
        self._slots += len(ordered)
        return self._numbers[slots].astype(np.uint32)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def events(self) -> Events:
        if self.rows == 0:
            raise DataError(
                f"no event can be learned from: {self._rejected:,} refused"
                + (f", the first because {self._reason}" if self._reason else "")
                + "; check --schema and --format"
            )
        if (size := (self._directory / "values").stat().st_size) and size < self._features * 8:
            with open(self._directory / "values", "ab") as file:
                file.truncate(self._features * 8)
        arrays = {name: self._mapped(name) for name in _ARRAYS}
        indptr = np.concatenate([[0], np.cumsum(arrays.pop("lengths"))]).astype(np.int64)
        batch = _batch(indptr, n_slots=max(1, self._slots), **arrays)
        digests = "".join(one.hexdigest() for one in self._hashes.values())
        digest = hashlib.sha256(f"{self._bits} {digests}".encode()).hexdigest()[:16]
        return Events(batch, self._bits, digest, self._rejected, self._reason)

    def _mapped(self, name: str) -> NDArray[Any]:
        path = self._directory / name
        if path.stat().st_size == 0:
            return np.empty(0, dtype=_ARRAYS[name])
        # Copy on write, because learners are compiled for arrays that can be written.
        return np.asarray(np.memmap(path, dtype=_ARRAYS[name], mode="c"))
