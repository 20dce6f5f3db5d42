"""Compile ahead, for an image or a machine that shall start fast: ``python -m serving.warm_up``.

It learns a few simulated events with every learner, as JSON lines, and scores some; what is compiled
is kept in FTRL_CACHE_DIR (or ``~/.cache/ftrl_engine``) for this version and this kind of processor.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROWS = 2000
FAILED = 1


def main() -> int:
    """Returns the exit status: 1 where nothing can be kept."""
    from ftrl_engine import jit
    from ftrl_engine.cli import main as ftrl
    from ftrl_engine.learners.base import learner_names
    from serving.scorer import Scorer
    from serving.store import SnapshotStore

    if jit.CACHE is None:
        print("ftrl warm-up: the cache cannot be written; set FTRL_CACHE_DIR to a directory", file=sys.stderr)
        return FAILED
    with tempfile.TemporaryDirectory(prefix="ftrl-warm-up-") as name:
        events = str(Path(name) / "clicks.jsonl")
        commands = [["simulate", "--to", events, "--rows", str(ROWS)]]
        for learner in learner_names():
            model = str(Path(name) / learner)
            commands += [
                ["learn", events, "--schema", "clicks", "--learner", learner, "--model", model],
                ["score", events, "--model", model, "--output", str(Path(name) / "scores")],
            ]
        for command in commands:
            status = ftrl([*command, "--quiet"])
            if status:
                return status
        store = SnapshotStore(Path(name) / learner_names()[0])
        store.refresh()
        if store.current is None:
            return FAILED
        careful: Scorer = store.current.scorer
        careful.score_carefully(b'{"context": {"user_id": "u1"}, "candidates": [{"item_id": "i1"}]}')
    print(f"compiled into {jit.CACHE}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
