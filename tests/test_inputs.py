"""Inputs of ``ftrl bench``: the same rows in every form, whole files or none."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import inputs
from bench.contenders import base
from bench.hashed_rows import FEATURES, HashedRows
from bench.inputs import Inputs


def test_hashed_rows_have_no_slot_twice_and_come_back(tmp_path: Path) -> None:
    rows = HashedRows.load(Inputs(tmp_path, seed=7).hashed(3000, 12), 12)
    assert rows.slots.shape == (3000, FEATURES)
    assert int(rows.slots.max()) < 1 << 12
    assert all(len(set(row)) == FEATURES for row in rows.slots.tolist())
    again = HashedRows.simulate(7, 3000, 12)
    np.testing.assert_array_equal(rows.slots, again.slots)
    np.testing.assert_array_equal(rows.labels, again.labels)
    assert 0.05 < float(rows.labels.mean()) < 0.5


def test_spread_rows_have_as_many_features_as_asked_for() -> None:
    rows = HashedRows.spread(7, 500, 14, 100)
    assert rows.slots.shape == (500, 100)
    assert all(len(set(row)) == 100 for row in rows.slots.tolist())
    np.testing.assert_array_equal(rows.slots, HashedRows.spread(7, 500, 14, 100).slots)
    batch = rows.batch()
    assert len(batch) == 500
    assert batch.longest_row() == 100
    # Each quarter of the table has its share of 50,000 slots, within five deviations.
    quarters = np.bincount((rows.slots >> 12).ravel(), minlength=4)
    assert np.abs(quarters - 12_500).max() < 5 * math.sqrt(50_000 * 0.25 * 0.75)


def test_rows_that_cannot_be_kept_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="bits must leave 100 features of a row apart, got 4"):
        HashedRows.spread(7, 10, 4, 100)


def test_files_hold_the_same_rows(tmp_path: Path) -> None:
    made = Inputs(tmp_path, seed=3)
    tsv, vw, libsvm = (made.criteo(form, 50).read_text().splitlines() for form in ("tsv", "vw", "libsvm"))
    labels = [line[0] == "1" for line in tsv]
    assert len(tsv) == len(vw) == len(libsvm) == 50
    assert [line.startswith("1 ") for line in vw] == labels == [line[0] == "1" for line in libsvm]
    events = [json.loads(line) for line in made.criteo("jsonl", 50).read_text().splitlines()]
    for line, event in zip(tsv, events, strict=True):
        assert [str(event.get(name, "")) for name in base.CRITEO_FIELDS] == line.split("\t")


def test_a_shorter_file_is_the_beginning_of_a_longer_one(tmp_path: Path) -> None:
    longer, fresh = Inputs(tmp_path / "a"), Inputs(tmp_path / "b")
    for made in (longer, fresh):
        made.directory.mkdir()
    longer.clicks("csv", 300)
    assert longer.clicks("csv", 20).read_bytes() == fresh.clicks("csv", 20).read_bytes()
    assert len(fresh.clicks("csv", 20).read_text().splitlines()) == 21


def test_an_input_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: object, rows: int) -> Iterator[bytes]:
        yield b"1\t"
        raise RuntimeError("no more rows")

    made = Inputs(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(inputs, "_blocks", broken)
        with pytest.raises(RuntimeError, match="no more rows"):
            made.criteo("tsv", 20)
        patch.setattr(np, "save", lambda path, array: broken_save(path))
        with pytest.raises(RuntimeError, match="disk full"):
            made.hashed(20, 12)
    assert not list(tmp_path.iterdir())
    assert len(made.criteo("tsv", 20).read_text().splitlines()) == 20
    assert len(HashedRows.load(made.hashed(20, 12), 12)) == 20


def broken_save(path: Path) -> None:
    path.write_bytes(b"half")
    raise RuntimeError("disk full")
