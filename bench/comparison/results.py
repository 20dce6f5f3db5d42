"""The results: everything that was found, as plain data that tables, plots and JSON are made of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.comparison.contest import Entry
from bench.comparison.judge import Standings
from bench.comparison.method import REFERENCE
from bench.comparison.outside.base import find_program
from bench.comparison.resamples import interval
from bench.comparison.standing import Ratio, Standing, at_equal_auc, at_equal_loss, at_own_loss
from bench.comparison.tally import Blocks

Dict = dict[str, Any]
# How much worse than the lowest log loss of the reference a level may be, in the table of levels.
LEVELS = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.05)
RATIOS = AT_LOSS, AT_AUC, AT_LATE_LOSS = (
    "nonzeros_at_equal_loss", "nonzeros_at_equal_auc", "nonzeros_at_equal_loss_of_the_second_half"
)  # fmt: skip
_WEIGHT_BYTES = 8  # of a snapshot: a slot and a weight of 32 bits each


def results(entries: Sequence[Entry], whole: Standings, late: Standings) -> Dict:
    """What each contender reached, and what it needs to be as good as FTRL-Proximal.

    ``late`` are the standings by the second half of the events alone.
    """
    found: Dict = {key: {} for key in ("contenders", *RATIOS, "levels")}
    rows = max(entry.rows for entry in entries)
    for entry in entries:
        name = entry.method.name
        standing = whole.contenders.get(name)
        if standing is None:
            reason = entry.skipped or "no configuration has a result"
            found["contenders"][name] = {"title": entry.method.title, "skipped": reason}
            continue
        reference = whole.references[entry.rows]
        found["contenders"][name] = _contender(entry, standing, reference) | _titled(entry, rows)
        found["levels"][name] = _levels(standing, reference)
        if name != REFERENCE:
            own = _ratio(at_own_loss(standing, reference))
            found[AT_LOSS][name] = _ratio(at_equal_loss(standing, reference)) | {"at_its_own": own}
            found[AT_AUC][name] = _ratio(at_equal_auc(standing, reference))
            found[AT_LATE_LOSS][name] = _ratio(
                at_equal_loss(late.contenders[name], late.references[entry.rows])
            )
    return found


def _titled(entry: Entry, rows: int) -> Dict:
    """The name, which says where a contender got only a part of the events."""
    part = "" if entry.rows == rows else f" ({entry.rows:,} events)"
    return {"title": entry.method.title + part, "fixed": _fixed(entry)}


def _fixed(entry: Entry) -> Dict:
    """The parameters of a learner of ours that no setting changes."""
    if entry.method.learner is None:
        return {}
    from ftrl_engine.learners.base import find_learner

    tried = {name for outcome in entry.outcomes for name in outcome.configuration.settings}
    known = find_learner(entry.method.learner).parameters
    return {each.name: each.default for each in known if each.name not in tried}


def _contender(entry: Entry, standing: Standing, reference: Standing) -> Dict:
    chosen, blocks = standing.outcome, standing.blocks
    draws = standing.loss_draws[standing.chosen]
    return {
        "outside": entry.outside,
        "learner": entry.method.learner,
        "note": find_program(entry.method.name).NOTE if entry.outside else None,
        "rows": entry.rows,
        "settings": dict(chosen.configuration.settings),
        "log_loss": blocks.log_loss,
        "log_loss_interval": interval(draws),
        "log_loss_lowest": float(standing.losses[standing.best]),
        "lowest_to_reference": _lowest_to_reference(standing, reference),
        "auc": blocks.auc,
        "auc_interval": interval(standing.auc_draws[standing.chosen]),
        "normalized_entropy": _normalized(blocks),
        "calibration": blocks.calibration,
        "nonzero_weights": round(chosen.nonzeros),
        "frontier": [[round(standing.nonzeros[i]), float(standing.losses[i])] for i in standing.by_loss()],
        "frontier_band": _band(standing, reference),
        "frontier_auc": [[round(standing.nonzeros[i]), float(standing.aucs[i])] for i in standing.by_auc()],
        "frontier_auc_band": _auc_band(standing, reference),
        "grid": _grid(entry, standing),
        "at_an_edge": _edge(standing),
        "curve": _curve(entry, chosen.curve),
        "reliability": [list(group) for group in blocks.reliability()],
        "rows_per_second": _speed(entry),
        "state_bytes_a_slot": _state_bytes(entry),
        "peak_mb": round(chosen.peak_mb, 1) or None,
        "snapshot_bytes": _WEIGHT_BYTES * round(chosen.nonzeros),
    }


def _lowest_to_reference(standing: Standing, reference: Standing) -> list[float | None]:
    """How much lower the lowest log loss is than the reference's (above 0: higher), and its interval."""
    difference = float(standing.losses[standing.best] - reference.losses[reference.best])
    draws = standing.loss_draws[standing.best] - reference.loss_draws[reference.best]
    return [difference, *interval(draws)]


def _normalized(blocks: Blocks) -> float | None:
    """Log loss / entropy of the label mean; None where all labels are equal."""
    importance, _, _, positives = blocks.sums.sum(axis=0).tolist()
    rate = positives / importance
    if not 0.0 < rate < 1.0:
        return None
    entropy: float = -rate * math.log(rate) - (1.0 - rate) * math.log1p(-rate)
    return blocks.log_loss / entropy


def _band(standing: Standing, reference: Standing) -> list[list[float | None]]:
    """For each point of the frontier, the interval of its difference to the reference, put on its scale."""
    at = reference.chosen
    base, draws = float(reference.losses[at]), reference.loss_draws[at]
    ends = [interval(standing.loss_draws[i] - draws) for i in standing.by_loss()]
    return [[None if end is None else base + end for end in pair] for pair in ends]


def _auc_band(standing: Standing, reference: Standing) -> list[list[float | None]]:
    at = reference.chosen
    base, draws = float(reference.aucs[at]), reference.auc_draws[at]
    ends = [interval(standing.auc_draws[i] - draws) for i in standing.by_auc()]
    return [[None if end is None else base + end for end in pair] for pair in ends]


def _grid(entry: Entry, standing: Standing) -> list[Dict]:
    rows = []
    for i, outcome in enumerate(entry.outcomes):
        row: Dict = {"settings": dict(outcome.configuration.settings)}
        if outcome.blocks is None:
            row |= {"failed": outcome.failed}
        else:
            row |= {
                "log_loss": outcome.log_loss,
                "auc": outcome.blocks.auc,
                "calibration": outcome.blocks.calibration,
                "nonzero_weights": round(outcome.nonzeros),
                "chosen": i == standing.chosen,
            }
        rows.append(row)
    return rows


def _edge(standing: Standing) -> list[str]:
    """Where the lowest log loss was found at the least or the largest that was tried: "rates", "powers"."""
    best = standing.outcomes[standing.best].configuration
    tried = [outcome.configuration for outcome in standing.outcomes]
    rates = [one.rate for one in tried if one.power == best.power]
    powers = [one.power for one in tried if one.power is not None]
    found = ["rates"] if best.rate in (min(rates), max(rates)) else []
    return found + (["powers"] if best.power is not None and best.power in (min(powers), max(powers)) else [])


def _curve(entry: Entry, own: Sequence[Any]) -> list[list[float | None]]:
    points = entry.portrait.curve if entry.portrait is not None else own
    return [[point.events, point.log_loss, point.nonzeros] for point in points]


def _speed(entry: Entry) -> float | None:
    """Events a second of processor time: the median of all configurations."""
    seconds = [outcome.seconds for outcome in entry.outcomes if outcome.blocks is not None]
    middle = statistics.median(seconds) if seconds else 0.0
    return round(entry.rows / middle, 1) if middle > 0 else None


def _state_bytes(entry: Entry) -> int | None:
    if entry.method.learner is None:
        return None
    from ftrl_engine.learners.base import find_learner

    return 8 * find_learner(entry.method.learner).width


def _ratio(ratio: Ratio) -> Dict:
    """A gap only where there is no ratio."""
    found: Dict = {"ratio": ratio.ratio, "interval": ratio.interval, "level": ratio.level}
    if ratio.ratio is None and ratio.gap is not None:
        found |= {"gap": ratio.gap, "gap_interval": ratio.gap_interval}
    return found


def _levels(standing: Standing, reference: Standing) -> list[list[float | None]]:
    """[level, non-zeros, those of the reference] for each of LEVELS; None where it is never reached."""
    lowest = float(np.min(reference.losses))
    rows: list[list[float | None]] = []
    for share in LEVELS:
        level = lowest * (1.0 + share)
        mine, theirs = standing.needed(level), reference.needed(level)
        rows.append([level, *(value if math.isfinite(value) else None for value in (mine, theirs))])
    return rows


def contract(found: Dict) -> Dict:
    """The JSON of ``ftrl compare``."""
    names = (
        "settings", "log_loss", "log_loss_interval", "auc", "normalized_entropy", "calibration",
        "nonzero_weights", "frontier", "rows_per_second", "skipped",
    )  # fmt: skip
    contenders = {
        name: {key: facts[key] for key in names if key in facts}
        for name, facts in found["contenders"].items()
    }
    ratios = {
        name: {key: facts[key] for key in ("ratio", "interval", "gap", "level", "at_its_own") if key in facts}
        for name, facts in found[AT_LOSS].items()
    }
    return {
        "data": found["data"],
        "contenders": contenders,
        AT_LOSS: ratios,
        "report": found.get("report"),
    }
