"""The comparison of McMahan 2011 (AISTATS, table 2): one lambda for all, AUC beside density.

FTRL-Proximal, RDA and FOBOS have the same rate gamma / sqrt(sum g^2) for each slot, no intercept and
beta = 0, and the same penalty lambda = total / T at each of T events. On shuffled events, as for its
public sets: rows scaled to unit length, the rate that is best on one shuffle out of 12 in [0.3, 1.9],
the mean over the other shuffles. In the order of the source, as for its search advertisements: rows as
they are, the best of 9 rates in [0.03, 0.2], beta = 1 in place of its lower bound of the sum.
Density is final non-zeros / features that occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.comparison.contest import Show
from bench.comparison.events import Events
from bench.comparison.method import Configuration
from bench.comparison.outcome import Outcome
from bench.comparison.trial import Trial
from ftrl_engine.batch import Batch

# The published one, and more: data without rare features takes more to be as sparse as the published.
TOTALS = (0.05, 0.3, 0.6, 1.0)
_FTRL, _RDA, _FOBOS = "ftrl_proximal", "adagrad_rda", "adagrad_fobos"
PUBLISHED = {
    "books": {_FTRL: (0.874, 0.081), _RDA: (0.878, 0.079), _FOBOS: (0.877, 0.382)},
    "kitchen": {_FTRL: (0.931, 0.129), _RDA: (0.934, 0.130), _FOBOS: (0.933, 0.414)},
}
_PENALTIES = {_FTRL: "l1_per_event", _RDA: "l1", _FOBOS: "l1"}
_SHUFFLED_RATES, _ORDERED_RATES = np.linspace(0.3, 1.9, 12), np.linspace(0.03, 0.2, 9)


@dataclass(frozen=True, slots=True)
class Protocol2011:
    """Events, the passes in random order (0: one in the order of the source), and how to run them."""

    events: Events
    shuffles: int
    seed: int = 0
    threads: int = 1
    show: Show = lambda text, share: None

    def results(self, totals: Sequence[float] = TOTALS) -> dict[str, Any]:
        """total -> method -> gamma, AUC and density: means, and those of each pass."""
        events = unit_length(self.events) if self.shuffles else self.events
        found: dict[str, Any] = {}
        for number, total in enumerate(totals):
            self.show("protocol of 2011", number / len(totals))
            penalty = total / len(events)
            best = self._best_rates(events, penalty)
            chosen = [_configuration(name, best[name], penalty, self.beta) for name in _PENALTIES]
            passes = [self._run(events, chosen, k) for k in range(1, self.shuffles + 1) or [0]]
            found[f"{total:g}"] = {
                name: _summary(best[name], [outcomes[i] for outcomes in passes], events)
                for i, name in enumerate(_PENALTIES)
            }
        return found

    @property
    def beta(self) -> float:
        """Of all three methods."""
        return 0.0 if self.shuffles else 1.0

    def _best_rates(self, events: Events, penalty: float) -> dict[str, float]:
        """By the AUC of a pass that is not counted, where there is more than one."""
        rates = (_SHUFFLED_RATES if self.shuffles else _ORDERED_RATES).tolist()
        pairs = [(name, rate) for name in _PENALTIES for rate in rates]
        tried = [_configuration(name, rate, penalty, self.beta) for name, rate in pairs]
        aucs = [_auc(outcome) for outcome in self._run(events, tried, 0)]
        best = {}
        for name in _PENALTIES:
            own = [(auc, rate) for auc, (other, rate) in zip(aucs, pairs, strict=True) if other == name]
            best[name] = max(own, key=lambda pair: pair[0])[1]
        return best

    def _run(self, events: Events, configurations: Sequence[Configuration], number: int) -> list[Outcome]:
        learners = {name: name for name in _PENALTIES}
        shuffles = min(1, self.shuffles)
        return list(Trial(events, learners, shuffles, self.seed + number, self.threads).run(configurations))


def unit_length(events: Events) -> Events:
    """Every row divided by the root of its sum of squares; a row without features stays."""
    batch = events.batch
    rows = np.repeat(np.arange(len(batch)), np.diff(batch.indptr))
    lengths = np.sqrt(np.bincount(rows, batch.values**2, minlength=len(batch)))
    values = batch.values / np.where(lengths > 0, lengths, 1.0)[rows]
    scaled = Batch(
        batch.indptr, batch.slots, values, events.labels, batch.importance, n_slots=batch.n_slots
    )  # fmt: skip
    return replace(events, batch=scaled, digest=f"{events.digest}-unit")


def _configuration(name: str, rate: float, penalty: float, beta: float) -> Configuration:
    settings: dict[str, float | str] = {"l1": 0.0, "l2": 0.0} if name == _FTRL else {}
    settings |= {"alpha": rate, "beta": beta, _PENALTIES[name]: penalty, "intercept": "none"}
    return Configuration(name, settings, rate, penalty)


def _auc(outcome: Outcome) -> float:
    return (outcome.blocks.auc if outcome.blocks is not None else None) or 0.0


def _summary(rate: float, outcomes: Sequence[Outcome], events: Events) -> dict[str, Any]:
    aucs = [_auc(outcome) for outcome in outcomes]
    densities = [outcome.nonzeros / events.slots for outcome in outcomes]
    return {
        "gamma": rate, "auc": float(np.mean(aucs)), "density": float(np.mean(densities)),
        "auc_of_passes": aucs, "density_of_passes": densities,
    }  # fmt: skip


def print_results(found: dict[str, Any], data: dict[str, Any]) -> None:
    """The table, with the published figures where the name of the source tells which they are."""
    from rich.console import Console
    from rich.table import Table

    published = next((rows for name, rows in PUBLISHED.items() if name in " ".join(data["source"])), {})
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 120
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("lambda T", "method", "gamma", "AUC", "density", "x FTRL's", "published AUC (density)"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for total, methods in found.items():
        for name, facts in methods.items():
            paper = published.get(name) if total == "0.05" else None
            table.add_row(
                total, name, f"{facts['gamma']:.2f}", f"{facts['auc']:.4f}", f"{facts['density']:.3f}",
                f"{facts['density'] / methods[_FTRL]['density']:.2f}",
                f"{paper[0]:.3f} ({paper[1]:.3f})" if paper else "",
            )  # fmt: skip
    console.print(table)
