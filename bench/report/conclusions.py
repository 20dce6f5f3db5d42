"""What follows from the results, in sentences; every sentence is made of figures that are in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.comparison.method import REFERENCE
from bench.comparison.results import AT_LATE_LOSS, AT_LOSS, LEVELS
from bench.report.words import count, listed, loss, loss_between, percent, times

Found = Mapping[str, Any]
GROWING = "ftrl_proximal_2011"
_CALIBRATED = 0.02  # a sum of predictions further off is named
_WORTH_NAMING = 0.0005  # a share of the log loss
_FEWER = 0.8
LEVELS_TITLE, USE_TITLE = "Non-zero weights that a log loss takes", "To use what was found"
_LEAST_SECONDS = 1.0
_CLAIMS = {
    "more": "More non-zero weights than FTRL-Proximal at its log loss",
    "fewer": "Fewer non-zero weights than FTRL-Proximal at its log loss",
    "same": "Not to be told apart from FTRL-Proximal, because the interval holds 1 (of a gap: 0)",
    "never": "With no settings that were tried as low a log loss",
}


def unproven(ratio: Found) -> bool:
    """Whether a gap may be chance."""
    low = ratio["gap_interval"][0]
    return low is None or low <= 0.0


def conclusions(found: Found) -> list[str]:
    """What to conclude, the most important first."""
    groups = grouped(found)
    return [f"{claim}: {listed(groups[key])}." for key, claim in _CLAIMS.items() if groups[key]]


def grouped(found: Found) -> dict[str, list[str]]:
    """The contenders by how their weights compare, each with its figures."""
    return {
        key: [_with_figures(found, name) for name in names] for key, names in names_grouped(found).items()
    }


def _with_figures(found: Found, name: str) -> str:
    ratio, title = found[AT_LOSS][name], found["contenders"][name]["title"]
    if ratio["ratio"] is not None:
        return f"{title} ({times(ratio)})"
    own = ratio["at_its_own"]
    at_own = f"; {times(own)} the weights at the log loss it reaches" if own["ratio"] is not None else ""
    return f"{title} ({loss(ratio['gap'])} {loss_between(ratio['gap_interval'])} above{at_own})"


def names_grouped(found: Found) -> dict[str, list[str]]:
    """Names by what an interval shows: more, same, fewer weights, or never as low a log loss."""
    groups: dict[str, list[str]] = {"more": [], "same": [], "fewer": [], "never": []}
    for name, ratio in found[AT_LOSS].items():
        if ratio["ratio"] is None:
            groups["same" if unproven(ratio) else "never"].append(name)
            continue
        low, high = ratio["interval"]
        key = "same"
        if low is not None and low > 1.0:
            key = "more"
        elif high is not None and high < 1.0:
            key = "fewer"
        groups[key].append(name)
    return groups


def not_first(found: Found) -> list[str]:
    """Where FTRL-Proximal does not win."""
    texts = _lower_loss(found)
    fewer = grouped(found)["fewer"]
    if fewer:
        texts.append(f"Fewer non-zero weights at the same log loss: {listed(fewer)}.")
    texts += _few_weights(found)
    if GROWING in names_grouped(found)["fewer"]:
        texts.append(_about_the_growing_threshold(found))
    texts += _faster(found)
    return texts or ["Nowhere on these events: no contender is better in log loss, weights or speed."]


def _lower_loss(found: Found) -> list[str]:
    better = []
    least = _WORTH_NAMING * found["contenders"][REFERENCE]["log_loss"]
    for facts in found["contenders"].values():
        if "skipped" in facts:
            continue
        difference, _, high = facts["lowest_to_reference"]
        if high is not None and high < 0.0 and -difference > least:
            better.append(f"{facts['title']} (by {loss(-difference)})")
    if not better:
        return []
    least_share = percent(_WORTH_NAMING)
    return [
        f"A lower log loss, whatever the number of weights: {listed(better)}. Less than {least_share} of the "
        "log loss is not named."
    ]


def _few_weights(found: Found) -> list[str]:
    """Who needs clearly fewer weights at some of the levels of the table."""
    better = []
    for name, rows in found["levels"].items():
        facts = found["contenders"][name]
        if facts["rows"] < found["data"]["rows"]:
            continue
        fewer = sum(1 for _, mine, theirs in rows if mine and theirs and mine < _FEWER * theirs)
        if fewer:
            better.append(f"{facts['title']} (at {fewer})")
    if not better:
        return []
    return [
        f"Of the {len(LEVELS)} log losses in the table “{LEVELS_TITLE}”, at least a fifth fewer weights than "
        f"FTRL-Proximal: {listed(better)}."
    ]


def _about_the_growing_threshold(found: Found) -> str:
    late = found[AT_LATE_LOSS].get(GROWING)
    text = (
        "The form of 2011 raises its threshold with every event, so it leaves out little while little was "
        "seen; the log loss counts those early predictions, the number of weights is that of the end."
    )
    if late is not None and late["ratio"] is not None:
        text += f" Counting the second half of the events alone, it needs {times(late)} the weights"
        low, high = late["interval"]
        holds = low is None or high is None or low <= 1.0 <= high
        text += ", where the interval holds 1." if holds else "."
    return (
        f"{text} To turn it on: --l1 0 --set l1_per_event=VALUE; the whole command is under “{USE_TITLE}”. "
        "It is not the default because its threshold grows as long as events come: which value is right "
        "depends on how many there will be, while l1 is one threshold for the whole stream."
    )


def _faster(found: Found) -> list[str]:
    rows = found["data"]["rows"]
    ours = {
        facts["title"]: facts["rows_per_second"] or 0.0
        for facts in found["contenders"].values()
        if "skipped" not in facts and not facts["outside"]
    }
    reference = found["contenders"][REFERENCE]["rows_per_second"] or 0.0
    faster = [title for title, speed in ours.items() if speed > 1.2 * reference > 0.0]
    if not faster or rows < _LEAST_SECONDS * reference:
        return []  # a pass is too short to tell
    return [f"Speed: {listed(faster)} learned at least 1.2 times as many events a second here."]


def remarks(found: Found) -> list[str]:
    """What a reader should know before relying on a figure."""
    texts = []
    for facts in found["contenders"].values():
        if "skipped" in facts:
            texts.append(f"{facts['title']} did not take part: {facts['skipped']}.")
            continue
        if facts["rows"] < found["data"]["rows"]:
            texts.append(
                f"{facts['title']} got the first {count(facts['rows'])} events only, because it is slow; "
                "its ratio is to FTRL-Proximal on the same events, and plots over all events and the table "
                "of log losses leave it out."
            )
        if facts["calibration"] is not None and abs(facts["calibration"] - 1.0) > _CALIBRATED:
            over = "more" if facts["calibration"] > 1.0 else "fewer"
            texts.append(
                f"{facts['title']} predicts {percent(abs(facts['calibration'] - 1.0))} {over} positives "
                "than there are."
            )
        if facts["at_an_edge"]:
            texts.append(
                f"{facts['title']} was best at an end of the {listed(facts['at_an_edge'])} that were tried, "
                "so settings beyond might do better."
            )
    return [
        *texts,
        "Settings are chosen by the same log loss that is then shown, for all contenders alike.",
        "Intervals tell how much the events at hand blur a difference. They do not tell what other "
        "settings, another order or more events would change, and several comparisons are read off one "
        "sample.",
        "Rows of the first table stand at their own log loss each; weights are to be compared at equal log "
        "loss, in the second.",
    ]


# Non-zeros at equal accuracy, in per cent above FTRL-Proximal, as published in 2013.
PUBLISHED = {"adagrad_rda": 3, "adagrad_fobos": 38, "ogd_count": 216}


def beside_the_paper(found: Found) -> str | None:
    """Why these figures differ from those of McMahan et al. 2013; None where none of them was measured."""
    if not any(name in found[AT_LOSS] for name in PUBLISHED):
        return None
    data = found["data"]
    once = percent(data["features_seen_once"] / data["features"])
    return (
        "McMahan et al. (2013) found for search advertising, with settings tuned to equal accuracy, that "
        "RDA needs 3 %, FOBOS 38 % and OGD-Count 216 % more non-zero weights than FTRL-Proximal. Those "
        f"were millions of events and more; here there are {count(data['rows'])} events and "
        f"{count(data['features'])} features, of which {once} occur once. FOBOS takes from a weight at "
        "every event, in proportion to the rate it has by then, while a sum of gradients that is held "
        "against a threshold forgets nothing. OGD-Count leaves out what is rare, and keeps what is "
        "frequent and says nothing: the more events, the more there is of that. RDA and FTRL-Proximal "
        "differ in where they pull weights to, which is the smaller difference. At a stricter or looser "
        "log loss the ratios differ as well; the table above has several."
    )
