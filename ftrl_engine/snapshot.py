"""Snapshot: what is served. Non-zero weights, the schema, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ftrl_engine import container
from ftrl_engine.batch import Batch
from ftrl_engine.errors import ConfigError, CorruptFileError, DataError
from ftrl_engine.hashing import check_bits
from ftrl_engine.learners.base import Learner
from ftrl_engine.schema import Schema
from ftrl_engine.weight_table import WeightTable, make_table, score_rows

KIND = "snapshot"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """An immutable model for scoring.

    slots       uint32[m], rising; weights float32[m], none of them 0
    intercept   float64, added to every margin
    bits        features are hashed to 2**bits slots
    provenance  plain data: learner, settings, rows, metrics, positions, time of publication
    counts      float32[m], what the learner has seen of each slot (Learner.counts_at); None where
                it keeps none or an older version has published
    """

    slots: NDArray[np.uint32]
    weights: NDArray[np.float32]
    intercept: float
    bits: int
    schema: Schema
    provenance: Mapping[str, Any] = field(default_factory=dict)
    counts: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """DataError where an array breaks the rules above: kernels trust them."""
        _check_arrays(self.slots, self.weights, self.bits)
        if self.counts is not None:
            _check_counts(self.counts, len(self.slots))

    @cached_property
    def table(self) -> WeightTable:
        """The weights as scoring looks them up; built when it is first asked for."""
        return make_table(self.slots, self.weights)

    @classmethod
    def of(cls, learner: Learner, bits: int, schema: Schema, provenance: Mapping[str, Any]) -> Snapshot:
        """The learner's weights as they stand, rounded to float32."""
        if learner.n_slots != 1 << bits:
            raise ConfigError(f"bits must fit the learner's {learner.n_slots} slots, got {bits}")
        # Part by part and one array after the other: memory holds one of them twice for a moment.
        parts = [_rounded(learner, slots, weights) for slots, weights in learner.weight_parts()]
        slots, weights, counts = ([part[k] for part in parts] for k in range(3))
        del parts
        return cls(
            _joined(slots), _joined(weights), learner.intercept, bits, schema, provenance,
            None if counts[0] is None else _joined(counts),
        )  # fmt: skip

    @property
    def rows(self) -> int:
        """How many events the model has learned from."""
        return int(self.provenance.get("rows", 0))

    def margins(self, batch: Batch) -> NDArray[np.float64]:
        """float64[rows], w.x + intercept."""
        return self._scores(batch, squash=False)

    def score(self, batch: Batch) -> NDArray[np.float64]:
        """float64[rows], the probability that the label is 1."""
        return self._scores(batch, squash=True)

    def _scores(self, batch: Batch, squash: bool) -> NDArray[np.float64]:
        if batch.n_slots != 1 << self.bits:
            raise DataError(f"the batch has {batch.n_slots} slots, this snapshot 2**{self.bits}")
        scores = np.empty(len(batch))
        score_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued,
            *self.table, self.intercept, scores, squash,
        )  # fmt: skip
        return scores

    def parts(self) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """(arrays, texts): everything a file holds, and what :meth:`from_parts` takes."""
        texts = {
            "bits": str(self.bits),
            "schema": json.dumps(self.schema.to_dict()),
            "provenance": json.dumps(dict(self.provenance), sort_keys=True),
        }
        arrays: dict[str, NDArray[Any]] = {
            "slots": self.slots,
            "weights": self.weights,
            "intercept": np.array([self.intercept]),
        }
        if self.counts is not None:
            arrays["counts"] = self.counts
        return arrays, texts

    @classmethod
    def from_parts(cls, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> Self:
        """The inverse of :meth:`parts`; KeyError, TypeError or ValueError where a part is wrong."""
        bits = check_bits(int(texts["bits"]))
        intercept = arrays["intercept"]
        if intercept.shape != (1,) or intercept.dtype != np.float64:
            raise ValueError(f"the intercept is {intercept.dtype}{list(intercept.shape)}, not float64[1]")
        return cls(
            arrays["slots"],
            arrays["weights"],
            float(intercept[0]),
            bits,
            Schema.from_dict(json.loads(texts["schema"])),
            json.loads(texts["provenance"]),
            arrays.get("counts"),
        )

    def save(self, path: Path) -> int:
        """Write one atomic, verified file; returns its size in bytes."""
        return container.write(path, KIND, *self.parts())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read and verify a file that :meth:`save` has written."""
        arrays, texts = container.read(Path(path), KIND)
        try:
            return cls.from_parts(arrays, texts)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"{path}: not a complete snapshot: {error!r}") from error


def _joined(parts: list[Any]) -> NDArray[Any]:
    """One array of all parts, which are let go of."""
    joined = np.concatenate(parts)
    parts.clear()
    return joined


def _rounded(
    learner: Learner, slots: NDArray[np.uint32], weights: NDArray[np.float64]
) -> tuple[NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32] | None]:
    """Slots, weights and counts as float32, without weights that are 0 then."""
    rounded = weights.astype(np.float32)
    kept = rounded != 0
    slots = slots[kept]
    exact = learner.counts_at(slots)
    if exact is None:
        return slots, rounded[kept], None
    counts = np.minimum(exact, np.finfo(np.float32).max).astype(np.float32)
    return slots, rounded[kept], counts


def _check_arrays(slots: NDArray[Any], weights: NDArray[Any], bits: int) -> None:
    kinds = [(array.dtype.name, array.ndim) for array in (slots, weights)]
    if kinds != [("uint32", 1), ("float32", 1)]:
        raise DataError(f"a snapshot needs slots uint32[m] and weights float32[m], got {kinds}")
    if len(slots) != len(weights):
        raise DataError(f"a snapshot needs a weight for each slot, got {len(slots)} and {len(weights)}")
    if len(slots) and (int(slots[-1]) >= 1 << bits or bool((slots[1:] <= slots[:-1]).any())):
        raise DataError(f"the slots of a snapshot must rise and fit into {bits} bits")


def _check_counts(counts: NDArray[Any], length: int) -> None:
    if counts.dtype != np.float32 or counts.shape != (length,):
        raise DataError(
            f"the counts of a snapshot are float32[{length}], got {counts.dtype}{list(counts.shape)}"
        )
    if not bool((counts >= 0).all() and np.isfinite(counts).all()):
        raise DataError("the counts of a snapshot must be finite and at least 0")
