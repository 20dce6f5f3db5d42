"""One share of ``ftrl warmup``: python -m serving.warmup FOLDER FORMAT LEARNER.

It learns a few simulated events of one format with one learner, scores them, and scores a request.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROWS = 2000
# The formats that cannot be simulated, by hand.
_BY_HAND = {"libsvm": "".join(f"{n % 2} {1 + n % 7}:1 {9 + n % 5}:{n / 7:.3f}\n" for n in range(ROWS))}
_REQUEST = b'{"context": {"user_id": "u1"}, "candidates": [{"item_id": "i1"}]}'
_FAILED = 1


def main() -> int:
    """Returns the exit status."""
    from ftrl_engine.cli import main as ftrl
    from serving.store import SnapshotStore

    folder, kind, learner = sys.argv[1:]
    name = f"{kind}-{learner}"
    events, model = Path(folder) / f"{name}.{kind}", str(Path(folder) / name)
    if kind in _BY_HAND:
        events.write_text(_BY_HAND[kind])
    elif status := ftrl(["simulate", "--to", str(events), "--rows", str(ROWS), "--quiet"]):
        return status
    flags = ["--model", model, "--learner", learner, "--quiet"]
    # Simulated rows of columns have no header line.
    flags += [] if kind in _BY_HAND else ["--schema", "clicks"]
    if status := ftrl(["learn", str(events), *flags]):
        return status
    if status := ftrl(["score", str(events), "--model", model, "--output", f"{model}.txt", "--quiet"]):
        return status
    store = SnapshotStore(Path(model))
    store.refresh()
    if store.current is None:
        return _FAILED
    store.current.scorer.score_carefully(_REQUEST)
    return 0


if __name__ == "__main__":
    sys.exit(main())
