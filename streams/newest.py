"""What learning goes on from: the newest checkpoint of a model that is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ftrl_engine.errors import ModelError
from ftrl_engine.learners.base import Learner, build
from ftrl_engine.metrics import Progressive
from streams import checkpoint
from streams.checkpoint import Totals
from streams.model_directory import ModelDirectory


def load_newest(model: ModelDirectory) -> tuple[Learner, Progressive, Totals]:
    """What learning goes on from; damaged checkpoints are set aside (the lock must be held)."""
    return read_newest(model, model.set_aside)


def read_newest(
    model: ModelDirectory, found: Callable[[Path], None] = lambda path: None
) -> tuple[Learner, Progressive, Totals]:
    """The learner as the newest undamaged checkpoint has it, or a new one; ``found`` is told which."""
    settings = model.settings

    def new() -> Learner:
        return build(settings.learner, n_slots=1 << settings.bits, **settings.parameters)

    def load(path: Path) -> tuple[Learner, Progressive, Totals]:
        learner = new()
        metrics, totals = checkpoint.restore(path, learner)
        found(path)
        return learner, metrics, totals

    loaded = model.newest(model.checkpoints(), load)
    if loaded is None and model.snapshots():
        raise ModelError(
            f"model {model.path}: has snapshots but no checkpoint to go on from; restore checkpoints/ "
            "from a backup or start a new model in another directory"
        )
    return loaded if loaded is not None else (new(), Progressive(), Totals())
