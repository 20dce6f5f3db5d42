"""Rows as text for Vowpal Wabbit, and one pass of it over them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.comparison.outside.base import Rows, Run

# A feature whose name is a number has that number as its hash, so slots stay what they are.
_CONSTANT = 11650396
_MOST_BITS = 31


def write_rows(rows: Rows, path: Path) -> None:
    """``label importance | slot:value ...``, one line a row, labels -1 and 1."""
    with open(path, "w", encoding="ascii") as file:
        file.writelines(_lines(rows))


def _lines(rows: Rows) -> Iterator[str]:
    labels = np.where(rows.labels == 1.0, "1", "-1").tolist()
    bounds = rows.indptr.tolist()
    for i, label in enumerate(labels):
        lo, hi = bounds[i], bounds[i + 1]
        names = rows.slots[lo:hi].tolist()
        if rows.values is None:
            features = " ".join(map(str, names))
        else:
            pairs = zip(names, rows.values[lo:hi].tolist(), strict=True)
            features = " ".join(f"{name}:{value!r}" for name, value in pairs)
        importance = "" if rows.importance is None else f" {float(rows.importance[i])!r}"
        yield f"{label}{importance} | {features}\n"


def bits_for(n_slots: int) -> int:
    """The fewest bits that hold every slot and keep the constant feature apart from them."""
    bits = max(1, (n_slots - 1).bit_length())
    while bits < _MOST_BITS and _CONSTANT % (1 << bits) < n_slots:
        bits += 1
    return bits


def run_file(path: Path, bits: int, words: list[str]) -> Run:
    """One pass over the text; every row is predicted before it is learned from."""
    margins, model = path.with_suffix(".margins"), path.with_suffix(".model")
    command = [
        "--quiet", "-d", str(path), "--cache_file", str(path.with_suffix(".cache")), "-b", str(bits),
        "--loss_function", "logistic", "--passes", "1", "--predict_only_model",
        "-r", str(margins), "--readable_model", str(model), *words,
    ]  # fmt: skip
    workspace = importlib.import_module("pylibvw").vw(command)
    workspace.run_parser()
    workspace.finish()
    predicted = np.array(margins.read_bytes().split(), dtype=np.float64)
    return Run(predicted, _nonzeros(model, _CONSTANT % (1 << bits)))


def _nonzeros(model: Path, constant: int) -> int:
    """Weights that are not zero in a readable model, the constant left out."""
    count = 0
    with open(model, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            slot, colon, rest = line.partition(":")
            if colon and slot.isdigit() and int(slot) != constant:
                count += float(rest.split()[0]) != 0.0
    return count
