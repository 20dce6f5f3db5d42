"""Snapshot: what is served. Non-zero weights, the schema, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftrl_engine import container
from ftrl_engine.batch import Batch
from ftrl_engine.errors import ConfigError, CorruptFileError, DataError
from ftrl_engine.hashing import check_bits
from ftrl_engine.jit import kernel
from ftrl_engine.learners.base import Learner
from ftrl_engine.losses import sigmoid
from ftrl_engine.schema import Schema

KIND = "snapshot"
# No slot has this number, so it marks a free cell.
_FREE = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """An immutable model for scoring.

    slots       uint32[m], rising; weights float32[m], none of them 0
    intercept   float64, added to every margin
    bits        features are hashed to 2**bits slots
    provenance  plain data: learner, settings, rows, metrics, positions, time of publication
    """

    slots: NDArray[np.uint32]
    weights: NDArray[np.float32]
    intercept: float
    bits: int
    schema: Schema
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = 16
        while size < 2 * len(self.slots):
            size *= 2
        keys = np.full(size, _FREE, dtype=np.uint32)
        values = np.zeros(size, dtype=np.float32)
        fill_table(self.slots, self.weights, keys, values)
        object.__setattr__(self, "_table", (keys, values))

    @classmethod
    def of(cls, learner: Learner, bits: int, schema: Schema, provenance: Mapping[str, Any]) -> Snapshot:
        """The learner's weights as they stand, rounded to float32."""
        if learner.n_slots != 1 << bits:
            raise ConfigError(f"bits must fit the learner's {learner.n_slots} slots, got {bits}")
        slots, weights = learner.weights()
        rounded = weights.astype(np.float32)
        kept = rounded != 0
        return cls(slots[kept], rounded[kept], learner.intercept, bits, schema, provenance)

    @property
    def rows(self) -> int:
        """How many events the model has learned from."""
        return int(self.provenance.get("rows", 0))

    def margins(self, batch: Batch) -> NDArray[np.float64]:
        """float64[rows], w.x + intercept."""
        if batch.n_slots != 1 << self.bits:
            raise DataError(f"the batch has {batch.n_slots} slots, this snapshot 2**{self.bits}")
        margins = np.empty(len(batch))
        keys, values = self._table  # type: ignore[attr-defined]
        score_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, keys, values, self.intercept, margins
        )
        return margins

    def score(self, batch: Batch) -> NDArray[np.float64]:
        """float64[rows], the probability that the label is 1."""
        margins = self.margins(batch)
        probabilities_of(margins)
        return margins

    def save(self, path: Path) -> int:
        """Write one atomic, verified file; returns its size in bytes."""
        metadata = {
            "bits": str(self.bits),
            "schema": json.dumps(self.schema.to_dict()),
            "provenance": json.dumps(dict(self.provenance), sort_keys=True),
        }
        arrays = {
            "slots": self.slots,
            "weights": self.weights,
            "intercept": np.array([self.intercept]),
        }
        return container.write(path, KIND, arrays, metadata)

    @classmethod
    def load(cls, path: Path | str) -> Snapshot:
        """Read and verify a file that :meth:`save` has written."""
        arrays, metadata = container.read(Path(path), KIND)
        try:
            bits = check_bits(int(metadata["bits"]))
            _check_arrays(arrays["slots"], arrays["weights"], arrays["intercept"], bits)
            return cls(
                arrays["slots"],
                arrays["weights"],
                float(arrays["intercept"][0]),
                bits,
                Schema.from_dict(json.loads(metadata["schema"])),
                json.loads(metadata["provenance"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"{path}: not a complete snapshot: {error!r}") from error


def _check_arrays(slots: NDArray[Any], weights: NDArray[Any], intercept: NDArray[Any], bits: int) -> None:
    """ValueError where a kernel that trusts them could read beyond their end."""
    kinds = [(array.dtype.name, array.ndim) for array in (slots, weights, intercept)]
    if kinds != [("uint32", 1), ("float32", 1), ("float64", 1)] or len(intercept) != 1:
        raise ValueError(f"arrays are {kinds}")
    if len(slots) != len(weights):
        raise ValueError(f"{len(slots)} slots and {len(weights)} weights")
    if len(slots) and (int(slots[-1]) >= 1 << bits or bool((slots[1:] <= slots[:-1]).any())):
        raise ValueError(f"slots do not rise or do not fit into {bits} bits")


@kernel
def fill_table(
    slots: NDArray[np.uint32],
    weights: NDArray[np.float32],
    keys: NDArray[np.uint32],
    values: NDArray[np.float32],
) -> None:
    """Build the open-addressing table (linear probing, half empty) from slot to weight."""
    mask = len(keys) - 1
    for i in range(len(slots)):
        cell = np.int64(slots[i]) & mask
        while keys[cell] != _FREE:
            cell = (cell + 1) & mask
        keys[cell] = slots[i]
        values[cell] = weights[i]


@kernel
def score_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], keys: NDArray[np.uint32], weights: NDArray[np.float32],
    intercept: float, margins: NDArray[np.float64],
) -> None:  # fmt: skip
    """The margins of the rows; a slot that is not in the table has weight 0."""
    mask = len(keys) - 1
    for r in range(len(indptr) - 1):
        margin = 0.0
        for k in range(indptr[r], indptr[r + 1]):
            slot = slots[k]
            cell = np.int64(slot) & mask
            while keys[cell] != slot and keys[cell] != _FREE:
                cell = (cell + 1) & mask
            if keys[cell] == slot:
                margin += np.float64(weights[cell]) * (values[k] if valued[r] else 1.0)
        margins[r] = margin + intercept


@kernel
def probabilities_of(margins: NDArray[np.float64]) -> None:
    """Replace every margin by its probability."""
    for i in range(len(margins)):
        margins[i] = sigmoid(margins[i])
