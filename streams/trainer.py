"""The training loop: the only place with order.

For every step of the pipeline: predict, learn, measure, keep what was refused, move the
positions. When due: checkpoint, then snapshot, then acknowledge, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ftrl_engine.errors import ModelError
from ftrl_engine.metrics import Progressive
from ftrl_engine.snapshot import Snapshot
from streams import checkpoint
from streams.cadence import Timer
from streams.codecs.base import Codec
from streams.model_directory import ModelDirectory
from streams.name_collector import NameCollector
from streams.name_store import NameStore
from streams.newest import load_newest
from streams.passes import name_in_pass, of_pass
from streams.pipeline import Pipeline, Step
from streams.rejects import RejectFile, RejectSink
from streams.source import Source
from streams.train_options import TrainOptions

REPORT_SECONDS = 1.0


class Trainer:
    """One model being learned; holds its lock from construction to :meth:`close`."""

    def __init__(self, model: ModelDirectory, options: TrainOptions | None = None) -> None:
        self.model = model
        self.options = options or TrainOptions()
        self._lock = model.lock()
        try:
            self.learner, self.metrics, self.totals = load_newest(model)
            self._names = self._collector()
            sink = self.options.rejects
            self._rejects: RejectFile | RejectSink = (
                RejectFile(model.rejects_path, self.totals.rejects)
                if sink is None
                else RejectSink(sink, self.totals.rejects)
            )
        except BaseException:
            self._lock.release()
            raise
        self.positions = dict(self.totals.positions)
        self.damage: dict[str, str] = {}  # by partition, why it could not be read whole
        # A new model's run is its whole history, so one set of sums serves both.
        self.run_metrics = Progressive() if self.totals.rows else self.metrics
        self.rows = 0
        self.rejected = 0
        self.first_reason = ""
        self.nonzero_weights = 0
        self.saved = self.totals
        self._touched: int | None = None  # of what is saved
        self._known = dict(self.positions)
        self.source: Source | None = None
        self._codec: Codec | None = None
        self._pass = 1
        # What is served can always be resumed from, and a model without a checkpoint is new: so the first
        # rows are saved at once, while they are few, and no snapshot has to wait for a large file.
        self._new = not model.checkpoints()
        self._anchored = False  # a position without events came that must not be looked up again
        now = self.options.clock()
        self.started = now
        self._checkpoint_timer = Timer(self.options.checkpoint_every, now, self.totals.rows)
        self._publish_timer = Timer(self.options.publish_every, now, self.totals.rows)
        self._report_time = now

    def close(self) -> None:
        """Release the files and the lock; saves nothing."""
        try:
            with self._refused_events():
                self._rejects.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def source_positions(self, number: int = 1) -> dict[str, int]:
        """Where the ``number``-th pass over a source stands."""
        return of_pass(self.positions, number)

    def source_marks(self, number: int = 1) -> dict[str, str]:
        """What is saved of the records before :meth:`source_positions`."""
        return of_pass(dict(self.saved.marks), number)

    def slots_touched(self) -> int:
        """How many slots have a state that is not all zero."""
        if self._touched is None or self.totals != self.saved:
            self._touched = checkpoint.Touched(self.learner.state).count
        return self._touched

    def met_only_known_damage(self) -> bool:
        """Whether all that was refused is the damage of files that were learned up to it before."""
        return self.rejected == len(self.damage) and self.damage.keys() <= self._known.keys()

    def _collector(self) -> NameCollector | None:
        if not self.options.names:
            return None
        settings = self.model.settings
        return NameCollector(
            self.learner,
            NameStore(self.learner.n_slots, self.options.names),
            self.model.names_path,
            (settings.schema, settings.bits),
            self.model.warn,
            self.options.clock,
        )

    def learn_from(self, source: Source, codec: Codec, number: int = 1) -> bool:
        """Learn all of one pass over the source; False where it was stopped or reached the limit."""
        self._pass = number
        self.source, self._codec = source, codec
        with Pipeline(source, codec) as pipeline:
            complete = self._learn_steps(pipeline, source)
        self.damage |= {name_in_pass(name, number): reason for name, reason in source.damage().items()}
        return complete

    def _learn_steps(self, pipeline: Pipeline, source: Source) -> bool:
        for step in pipeline.steps():
            if step is not None:
                self._take(step)
            self._do_what_is_due(source)
            if self.options.stop.is_set() or self._rows_left() == 0:
                return False
        return True

    def finish(self, source: Source) -> None:
        """Checkpoint, publish, and find the last names: what is not a matter of the disk beside what is."""
        names, self._names = self._names, None  # nothing else touches them meanwhile
        with ThreadPoolExecutor(1, "ftrl-aside") as aside:
            snapshot = aside.submit(self._snapshot, self.provenance())
            naming = None if names is None else aside.submit(names.finish)
            if self.totals != self.saved or self._new:
                self._save(source)
            self._publish(snapshot.result())
        self._names = names
        if naming is not None:
            naming.result()

    def _rows_left(self) -> int:
        return (1 << 62) if self.options.limit is None else self.options.limit - self.rows

    def _take(self, step: Step) -> None:
        while True:
            rows = self.totals.rows
            most = min(
                self._rows_left(),
                self._checkpoint_timer.rows_left(rows),
                self._publish_timer.rows_left(rows),
            )
            if most <= 0 and len(step.batch):
                return
            if most >= len(step.batch):
                self._learn(step)
                return
            self._learn(step.cut(most))
            step = step.rest(most)
            if self._rows_left() == 0:
                return
            self._do_what_is_due(None)

    def _learn(self, step: Step) -> None:
        batch = step.batch
        if len(batch):
            assert batch.labels is not None, "the codec refuses events without a label"
            margins = self.learner.learn(batch)
            if self._pass == 1:
                self.metrics.update(margins, batch.labels, batch.importance)
                if self.run_metrics is not self.metrics:
                    self.run_metrics.update(margins, batch.labels, batch.importance)
            self.rows += len(batch)
            if self._names is not None and self._codec is not None:
                self._names.see(step, self._codec)
        if step.refused:
            self.first_reason = self.first_reason or step.refused[0].reason
        with self._refused_events():
            refused = self._rejects.add(step.refused)
        self.rejected += refused
        name = name_in_pass(step.partition, self._pass)
        self._anchored |= not len(batch) and not step.refused and name not in self.positions
        self.positions[name] = step.next
        self.totals = replace(
            self.totals, rows=self.totals.rows + len(batch), rejected=self.totals.rejected + refused
        )

    def _do_what_is_due(self, source: Source | None) -> None:
        now, rows = self.options.clock(), self.totals.rows
        first = self._anchored or (self._new and rows)
        if self._checkpoint_timer.due(now, rows) or (first and source is not None):
            self._save(source)
            now = self.options.clock()
        if self._publish_timer.due(now, rows):
            self.publish()
        if now - self._report_time >= REPORT_SECONDS:
            self._report_time = now
            self.options.report(self)

    def _save(self, source: Source | None) -> None:
        self.totals = replace(
            self.totals,
            rejects=self._sync_rejects(),
            positions=tuple(sorted(self.positions.items())),
            marks=tuple(sorted(self._marks().items())),
        )
        try:
            self._touched = checkpoint.save(
                self.model.checkpoint_path(self.totals.rows), self.learner, self.metrics, self.totals
            )
        except OSError as error:
            raise ModelError(_cannot_write(self.model, "checkpoint", error)) from error
        self.saved = self.totals
        self._anchored = self._new = False
        self._checkpoint_timer.restart(self.options.clock(), self.totals.rows)
        self.model.prune()
        if self._names is not None:
            self._names.save_if_due()
        if source is not None:
            source.acknowledge(self.source_positions())

    def _marks(self) -> dict[str, str]:
        """The marks of all positions: those of before where nothing has moved, else the source's."""
        still = set(self.positions.items()) & set(self.saved.positions)
        marks = {name: mark for name, mark in self.saved.marks if (name, self.positions[name]) in still}
        if self.source is None:
            return marks
        for number in range(1, self._pass + 1):
            at = self.source_positions(number)
            moved = {name: at[name] for name in at if name_in_pass(name, number) not in marks}
            found = self.source.marks(moved)
            marks |= {name_in_pass(name, number): mark for name, mark in found.items()}
        return marks

    def _sync_rejects(self) -> int:
        with self._refused_events():
            return self._rejects.sync()

    @contextmanager
    def _refused_events(self) -> Iterator[None]:
        """Say of which file it is that it cannot be written."""
        try:
            yield
        except OSError as error:
            what = f"{self._rejects.name} of refused events"
            raise ModelError(_cannot_write(self.model, what, error)) from error

    def publish(self) -> None:
        """Write the snapshot of the weights as they stand."""
        if self._new:
            self._save(self.source)
        self._publish(self._snapshot(self.provenance()))

    def _snapshot(self, provenance: Mapping[str, Any]) -> Snapshot:
        settings = self.model.settings
        return Snapshot.of(self.learner, settings.bits, settings.schema, provenance)

    def _publish(self, snapshot: Snapshot) -> None:
        self.nonzero_weights = len(snapshot.slots)
        try:
            snapshot.save(self.model.snapshot_path(self.totals.rows))
        except OSError as error:
            raise ModelError(_cannot_write(self.model, "snapshot", error)) from error
        self._publish_timer.restart(self.options.clock(), self.totals.rows)
        self.model.prune()
        if self._names is not None:
            self._names.save_if_due()

    def provenance(self) -> dict[str, Any]:
        """What a snapshot says of itself."""
        settings = self.model.settings
        return {
            "learner": {"name": settings.learner, "bits": settings.bits, **settings.parameters},
            "format": settings.format,
            "rows": self.totals.rows,
            "rejected": self.totals.rejected,
            "metrics": self.metrics.summary(),
            "positions": dict(sorted(self.positions.items())),
            "source": dict(self.source.status()) if self.source else {},
            "published_at": self.options.wall(),
        }


def _cannot_write(model: ModelDirectory, what: str, error: OSError) -> str:
    if model.checkpoints():
        state = "what was saved before is intact, make room and learn again"
    elif model.snapshots():
        state = (
            "its checkpoints are gone and learning cannot go on from here; the snapshots still score, "
            "start a new model in another directory"
        )
    else:
        state = "nothing of it is saved, make room and learn again"
    return f"model {model.path}: the {what} cannot be written ({error.strerror or error}); {state}"


def train(
    source: Source, codec: Codec, model: ModelDirectory, options: TrainOptions | None = None
) -> dict[str, Any]:
    """Learn from an open source until it ends; returns the progressive metrics of the run."""
    with Trainer(model, options) as trainer:
        trainer.learn_from(source, codec)
        trainer.finish(source)
        return trainer.run_metrics.summary() | {"rows": trainer.rows, "rejected": trainer.rejected}
