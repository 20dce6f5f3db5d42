"""One share of ``ftrl warmup``: python -m serving.warmup FOLDER STEP...

The step FORMAT:LEARNER learns a few simulated events of a format with a learner and scores them; the step
``serve`` scores a request.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROWS = 2000
# The formats that cannot be simulated, by hand.
_BY_HAND = {"libsvm": "".join(f"{n % 2} {1 + n % 7}:1 {9 + n % 5}:{n / 7:.3f}\n" for n in range(ROWS))}
_BITS = 10


def main() -> int:
    """Returns the exit status."""
    from ftrl_engine.cli import start_fast

    start_fast()
    folder, *steps = sys.argv[1:]
    for step in steps:
        status = _serve() if step == "serve" else _learn(Path(folder), *step.split(":"))
        if status:
            return status
    return 0


def _learn(folder: Path, kind: str, learner: str) -> int:
    from ftrl_engine.cli import main as ftrl

    name = f"{kind}-{learner}"
    events, model = folder / f"{name}.{kind}", str(folder / name)
    if kind in _BY_HAND:
        events.write_text(_BY_HAND[kind])
    elif status := ftrl(["simulate", "--to", str(events), "--rows", str(ROWS), "--quiet"]):
        return status
    flags = ["--model", model, "--learner", learner, "--quiet"]
    # Simulated rows of columns have no header line.
    flags += [] if kind in _BY_HAND else ["--schema", "clicks"]
    if status := ftrl(["learn", str(events), *flags]):
        return status
    return ftrl(["score", str(events), "--model", model, "--output", f"{model}.txt", "--quiet"])


def _serve() -> int:
    from ftrl_engine.learners.base import build
    from ftrl_engine.schema import Schema
    from ftrl_engine.snapshot import Snapshot
    from serving.scorer import Scorer
    from serving.store import warm_up

    learner = build("ftrl_proximal", n_slots=1 << _BITS)
    warm_up(Scorer(Snapshot.of(learner, _BITS, Schema.load("clicks"), {})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
