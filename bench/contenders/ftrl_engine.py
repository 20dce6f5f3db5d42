"""Ours."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contenders.base import ALPHA, BETA, L1, L2, Job, Measures, call_times, criteo_events, new_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ftrl_engine.batch import Batch
    from ftrl_engine.learners.base import Learner
    from streams.lines import LineReader
    from streams.source import Block

_WARM_ROWS = 1000
_WARM_BYTES = 8 << 20
_SHORT_RUNS = 3


def learn_rows(job: Job) -> Measures:
    """Learn all rows once, in batches as the trainer does."""
    from bench.hashed_rows import HashedRows

    rows = HashedRows.load(job["hashed"], job["bits"])
    _learn(_learner(job), rows.head(_WARM_ROWS).batch())
    learner, batch = _learner(job), rows.batch()
    learner.state.fill(0.0)  # touches every page before the clock starts
    margins, seconds = _learn(learner, batch)
    return {"rows_per_second": len(rows) / seconds, "log_loss": rows.log_loss(margins)}


def score_rows(job: Job) -> Measures:
    """Score all rows with the snapshot of a model that has learned them."""
    from bench.hashed_rows import HashedRows
    from ftrl_engine.schema import Schema
    from ftrl_engine.snapshot import Snapshot

    learner, batch = _learner(job), HashedRows.load(job["hashed"], job["bits"]).batch()
    _learn(learner, batch)
    snapshot = Snapshot.of(learner, job["bits"], Schema(), {})
    snapshot.score(batch.rows(0, min(_WARM_ROWS, len(batch))))
    parts = _parts(batch)
    started = time.perf_counter()
    for part in parts:
        snapshot.score(part)
    return {"rows_per_second": len(batch) / (time.perf_counter() - started)}


def _learner(job: Job) -> Learner:
    from ftrl_engine.learners.base import build

    return build("ftrl_proximal", n_slots=1 << job["bits"], alpha=ALPHA, beta=BETA, l1=L1, l2=L2)


def _learn(learner: Learner, batch: Batch) -> tuple[NDArray[np.float64], float]:
    import numpy as np

    parts = _parts(batch)
    started = time.perf_counter()
    margins = [learner.learn(part) for part in parts]
    return np.concatenate(margins), time.perf_counter() - started


def _parts(batch: Batch) -> list[Batch]:
    from streams.codecs.base import MAX_BATCH_ROWS

    return [
        batch.rows(start, min(start + MAX_BATCH_ROWS, len(batch)))
        for start in range(0, len(batch), MAX_BATCH_ROWS)
    ]


def _parse(format: str, job: Job) -> Measures:
    """From the bytes of a file in memory to slots, on one core."""
    from ftrl_engine.schema import Schema
    from streams.codecs.base import open_codec
    from streams.lines import LineReader

    data = Path(job["file"]).read_bytes()
    codec = open_codec(format, Schema.load(job["schema"]), job["bits"])

    def parse(text: bytes) -> int:
        reader = LineReader(io.BytesIO(text).readinto, "bench")
        if codec.has_header and not codec.schema.columns:
            reader.take_header()
        return sum(len(part.batch) for block in _blocks(reader) for part in codec.encode(block))

    # As much as is read ahead, so that the memory for it was touched.
    parse(data[: data.rindex(b"\n", 0, _WARM_BYTES) + 1])
    started = time.perf_counter()
    rows = parse(data)
    return {"rows": rows, "rows_per_second": rows / (time.perf_counter() - started)}


parse_csv = partial(_parse, "csv")
parse_jsonl = partial(_parse, "jsonl")
parse_libsvm = partial(_parse, "libsvm")
parse_tsv = partial(_parse, "tsv")
parse_vw = partial(_parse, "vw")


def _blocks(reader: LineReader) -> Iterator[Block]:
    while (block := reader.read()) is not None:
        yield block


def learn_file(job: Job) -> Measures:
    """``ftrl learn``: from a file to a model directory."""
    return learn_format({**job, "file": job["criteo"], "schema": "criteo"})


def learn_format(job: Job) -> Measures:
    """The same from a file of any form."""
    words = ["learn", job["file"], "--schema", job["schema"], "--bits", str(job["bits"])]
    for flag, value in (("alpha", ALPHA), ("beta", BETA), ("l1", L1), ("l2", L2)):
        words += [f"--{flag}", str(value)]
    return _command([*words, "--model", job.get("model") or new_path(job, "model")])


from_gzip = learn_format


def learn_file_started(job: Job) -> Measures:
    """:func:`learn_file` after the start of a process; short_seconds is what a file of a few rows takes.

    The difference is what grows with the rows; the rest begins the work and saves the whole table.
    """
    short = {**job, "criteo": job["short"]}
    learn_file(short)  # loads what a process loads once
    seconds = min(learn_file(short)["seconds"] for _ in range(_SHORT_RUNS))
    return learn_file(job) | {"short_seconds": seconds}


def score_file(job: Job) -> Measures:
    """``ftrl score``: from a file to a file of probabilities."""
    return _command(["score", job["criteo"], "--model", job["model"], "--output", new_path(job, "scores")])


def _command(words: list[str]) -> Measures:
    from ftrl_engine.cli import main, start_fast

    start_fast()  # as the console script does
    with redirect_stdout(io.StringIO()) as stdout:
        status = main([*words, "--json", "--quiet"])
    if status != 0:
        raise SystemExit(status)
    result = json.loads(stdout.getvalue())
    return {name: float(result[name]) for name in ("rows", "seconds", "log_loss") if name in result}


def learn_one(job: Job) -> Measures:
    """One event: from a mapping of fields, and from a row that is hashed already."""
    from ftrl_engine.hasher import FeatureHasher
    from ftrl_engine.schema import Schema

    events = criteo_events(job)
    hasher, learner = FeatureHasher(Schema.load("criteo"), job["bits"]), _learner(job)
    rows = [hasher.transform([event]) for event in events]
    return call_times(
        "event", lambda i: learner.learn(hasher.transform([events[i]])), len(events)
    ) | call_times("row", lambda i: learner.learn(rows[i]), len(rows))


def score_one(job: Job) -> Measures:
    """One event: from a mapping of fields, and from a row that is hashed already."""
    from ftrl_engine.hasher import FeatureHasher
    from ftrl_engine.schema import Schema
    from ftrl_engine.snapshot import Snapshot

    events = criteo_events(job)
    schema = Schema.load("criteo")
    hasher, learner = FeatureHasher(schema, job["bits"]), _learner(job)
    rows = [hasher.transform([event]) for event in events]
    for row in rows:
        learner.learn(row)
    snapshot = Snapshot.of(learner, job["bits"], schema, {})
    return call_times(
        "event", lambda i: snapshot.score(hasher.transform([events[i]])), len(events)
    ) | call_times("row", lambda i: snapshot.score(rows[i]), len(rows))
