"""A realistic click stream whose true click probabilities are known.

logit p = intercept + user + item(t) + category + site + device + hour + position + ad_format
+ context + price + tags + segment x category + device x ad_format, where most ids have no
effect at all. Users, items, sites and tags follow a Zipf law. The intercept is solved so that
the mean click-through rate is ``ctr``. With ``drift``, half of the items that matter change
their effect slowly: a + b sin(phase + 2 pi drift t / 10**6) at event number t.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streams.click_events import (
    AD_FORMATS,
    CATEGORIES,
    CONTEXTS,
    DEVICES,
    MAX_TAGS,
    POSITIONS,
    SEGMENTS,
    SITES,
    TAGS,
    BestLogLoss,
    Events,
    best_log_loss,
)
from streams.click_text import to_csv, to_jsonl, to_tsv, to_vw
from streams.draws import Floats, Ints, check_range, sigmoid, solve_intercept, sparse_normal, zipf
from streams.simulate_criteo import criteo_rows, criteo_rows_vw

__all__ = [
    "BestLogLoss",
    "ClickStream",
    "Events",
    "best_log_loss",
    "criteo_rows",
    "criteo_rows_vw",
    "to_csv",
    "to_jsonl",
    "to_tsv",
    "to_vw",
]

# 2026-01-01 00:00 UTC, where the synthetic clock starts.
START = 1_767_225_600.0
MAX_IDS = 10_000_000
MAX_BLOCK_ROWS = 1_000_000

_TRUTH, _EVENTS = 0, 1  # the kinds of random numbers of one seed
_SAMPLE_ROWS = 50_000  # the events from which the intercept is solved

_SITE_SHARES, _DEVICE_SHARES = (1.2, 4.0), (0.62, 0.28, 0.08, 0.02)
_FORMAT_SHARES = (0.4, 0.25, 0.15, 0.12, 0.08)
_TAG_COUNT_SHARES = (0.15, 0.3, 0.3, 0.15, 0.1)
_TURN = 2.0 * np.pi


class ClickStream:
    """Simulated click events; every block can be made again from (seed, index, rows).

    users, items  how many different ids there are
    ctr           the mean click-through rate; with drift, at event 0, and later about that
    drift         turns per million events of the items that drift; 0: nothing changes
    start         the synthetic clock at event 0, seconds since 1970
    rate          events a second of the synthetic clock
    effects       the true weights: name -> float64 array, most entries exactly 0
    """

    def __init__(
        self,
        seed: int = 0,
        users: int = 100_000,
        items: int = 20_000,
        ctr: float = 0.05,
        drift: float = 0.0,
        start: float = START,
        rate: float = 1000.0,
    ) -> None:
        check_range("seed", seed, 0, 2**63 - 1)
        check_range("users", users, 1, MAX_IDS)
        check_range("items", items, 1, MAX_IDS)
        check_range("ctr", ctr, 1e-6, 1.0 - 1e-6)
        check_range("drift", drift, 0.0, 1e6)
        check_range("start", start, 0.0, 1e10)
        check_range("rate", rate, 1e-6, 1e9)
        self.seed, self.users, self.items = seed, users, items
        self.ctr, self.drift, self.start, self.rate = ctr, drift, start, rate
        random = np.random.default_rng([seed, _TRUTH])
        self._segment_of = random.integers(0, SEGMENTS, users)
        self._category_of = zipf(random.random(items), CATEGORIES, 1.1, 4.0)
        self._cents_of = np.exp(random.normal(3.0, 0.8, items)) * 100.0
        self._phase = random.random(items) * _TURN
        self._drifts = random.random(items) < 0.5
        self.effects = _effects(random, users, items)
        self.intercept = 0.0
        sample = self._draw(random, 0, _SAMPLE_ROWS)
        sample["number"][:] = 0  # the same intercept with and without drift
        self.intercept = solve_intercept(self._logits(sample), ctr)

    def block(self, index: int, rows: int) -> Events:
        """Events ``index * rows`` to ``(index + 1) * rows`` of the stream of blocks of ``rows``."""
        check_range("index", index, 0, 2**40)
        check_range("rows", rows, 0, MAX_BLOCK_ROWS)
        random = np.random.default_rng([self.seed, _EVENTS, index])
        columns = self._draw(random, index * rows, rows)
        probability = sigmoid(self._logits(columns))
        label = (random.random(rows) < probability).astype(np.int64)
        return Events(**columns, probability=probability, label=label)

    def _draw(self, random: np.random.Generator, first: int, rows: int) -> dict[str, Ints]:
        """The fields of ``rows`` events, without labels."""
        number = np.arange(first, first + rows, dtype=np.int64)
        user = zipf(random.random(rows), self.users, 1.05, 20.0)
        item = zipf(random.random(rows), self.items, 1.1, 10.0)
        daily = 1.0 - 0.8 * np.cos((np.arange(24) - 4) * _TURN / 24)
        count = _choose(random, rows, _TAG_COUNT_SHARES)
        tags = zipf(random.random((rows, MAX_TAGS)), TAGS, 1.1, 3.0)
        return {
            "number": number,
            "milliseconds": np.rint((self.start + number / self.rate) * 1000.0).astype(np.int64),
            "user_id": user,
            "segment": self._segment_of[user],
            "item_id": item,
            "category": self._category_of[item],
            "site": zipf(random.random(rows), SITES, *_SITE_SHARES),
            "device": _choose(random, rows, _DEVICE_SHARES),
            "hour": _choose(random, rows, daily / daily.sum()),
            "position": random.integers(0, POSITIONS, rows),
            "ad_format": _choose(random, rows, _FORMAT_SHARES),
            "context": random.integers(0, len(CONTEXTS), rows),
            "cents": np.rint(self._cents_of[item] * (0.9 + 0.2 * random.random(rows))).astype(np.int64) + 1,
            "tags": np.where(np.arange(MAX_TAGS) < count[:, None], tags, -1),
        }

    def _logits(self, columns: dict[str, Ints]) -> Floats:
        """The formula of the module, float64[rows]."""
        effects = self.effects
        logits: Floats = self.intercept - 0.3 * (np.log(columns["cents"]) - np.log(2000.0))
        for name in ("user_id", "category", "site", "device", "hour", "position", "ad_format", "context"):
            logits += effects[name][columns[name]]
        logits += effects["segment x category"][columns["segment"], columns["category"]]
        logits += effects["device x ad_format"][columns["device"], columns["ad_format"]]
        logits += effects["tags"][columns["tags"]].sum(axis=1)
        logits += self._item_effect(columns["item_id"], columns["number"])
        return logits

    def _item_effect(self, item: Ints, number: Ints) -> Floats:
        turns = np.where(self._drifts[item], number * (self.drift * 1e-6), 0.0)
        wave = np.sin(self._phase[item] + _TURN * turns)
        effect: Floats = self.effects["item_id"][item] + self.effects["item_id drift"][item] * wave
        return effect


def _effects(random: np.random.Generator, users: int, items: int) -> dict[str, Floats]:
    """The true weights, sparse where there are many values."""
    item = sparse_normal(random, items, 0.15, 0.6)
    tags = sparse_normal(random, TAGS + 1, 0.2, 0.5)
    tags[-1] = 0.0  # no tag
    return {
        "user_id": sparse_normal(random, users, 0.1, 0.9),
        "item_id": item,
        "item_id drift": np.where(item != 0.0, random.normal(0.0, 0.8, items), 0.0),
        "category": sparse_normal(random, CATEGORIES, 0.5, 0.5),
        "site": sparse_normal(random, SITES, 0.2, 0.7),
        "device": random.normal(0.0, 0.3, len(DEVICES)),
        "hour": sparse_normal(random, 24, 0.3, 0.4),
        "position": -0.35 * np.log(np.arange(1.0, POSITIONS + 1.0)),
        "ad_format": random.normal(0.0, 0.3, len(AD_FORMATS)),
        "context": sparse_normal(random, len(CONTEXTS), 0.4, 0.5),
        "tags": tags,
        "segment x category": sparse_normal(random, SEGMENTS * CATEGORIES, 0.15, 1.2).reshape(SEGMENTS, -1),
        "device x ad_format": sparse_normal(random, len(DEVICES) * len(AD_FORMATS), 0.3, 0.7).reshape(
            len(DEVICES), -1
        ),
    }


def _choose(random: np.random.Generator, rows: int, shares: Sequence[float] | Floats) -> Ints:
    """Codes 0 .. len(shares)-1 with the given probabilities."""
    codes: Ints = np.searchsorted(np.cumsum(shares)[:-1], random.random(rows), side="right")
    return codes.astype(np.int64)
