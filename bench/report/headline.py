"""The first words of a report: what came out in plain words, then the figures behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.comparison.method import REFERENCE
from bench.comparison.results import AT_LOSS
from bench.comparison.summary import factor
from bench.report.conclusions import names_grouped, unproven
from bench.report.words import count, listed, loss, loss_between, percent, times

Found = Mapping[str, Any]
_RIVAL, _ADAPTIVE = "sgd_l1", "vw_sgd_l1"


def headline(found: Found) -> str:
    """For someone who reads nothing else: no figure but the number of weights."""
    weights = found["contenders"][REFERENCE]["nonzero_weights"]
    text = f"On these events FTRL-Proximal needs about {_about(weights)} weights{_rival(found)}."
    names = [name for name in names_grouped(found)["fewer"] if name != _RIVAL]
    if names:
        titles = listed([found["contenders"][name]["title"] for name in names])
        text += f" As accurate with fewer weights: {titles}."
    return text


def _rival(found: Found) -> str:
    ratio = found[AT_LOSS].get(_RIVAL)
    if ratio is None:
        return ""
    if ratio["ratio"] is None:
        if unproven(ratio):
            return "; SGD+L1 gets nearly as accurate, and the difference may be chance"
        return "; SGD+L1 never gets as accurate with any setting tried"
    names = names_grouped(found)
    if _RIVAL in names["more"]:
        return f"; SGD+L1 needs {factor(ratio['ratio'])} times as many to be as accurate"
    if _RIVAL in names["fewer"]:
        return f"; SGD+L1 is as accurate with fewer, {factor(ratio['ratio'])} times as many"
    return "; SGD+L1 needs about as many to be as accurate: the difference may be chance"


def _about(value: float) -> str:
    """Two digits that matter."""
    return count(float(f"{value:.2g}"))


def headline_figures(found: Found) -> str:
    """The log losses, weights and intervals that the headline stands on."""
    facts = found["contenders"][REFERENCE]
    text = (
        f"FTRL-Proximal: log loss {loss(facts['log_loss'])} {loss_between(facts['log_loss_interval'])} with "
        f"{count(facts['nonzero_weights'])} non-zero weights."
    )
    if _RIVAL in found[AT_LOSS]:
        text += f" {_against(found)}"
        other = found[AT_LOSS].get(_ADAPTIVE)
        if other is not None and other["ratio"] is not None:
            title = found["contenders"][_ADAPTIVE]["title"]
            text += f" {title}, with a rate for each weight: {times(other)}."
    return f"{text} In brackets: 95 % intervals."


def _against(found: Found) -> str:
    """SGD with L1 in figures."""
    ratio = found[AT_LOSS][_RIVAL]
    own, share = ratio["at_its_own"], percent(found["about"]["tolerance"])
    level = f"log loss {loss(ratio['level'])} ({share} above the lowest of FTRL-Proximal)"
    title = "SGD with the cumulative L1 penalty (one rate for all weights)"
    if ratio["ratio"] is not None:
        return f"At {level}, {title} needs {times(ratio)} its non-zero weights."
    text = (
        f"{title} at its best stays {loss(ratio['gap'])} {loss_between(ratio['gap_interval'])} above {level}."
    )
    if own["ratio"] is not None:
        text += (
            f" At a log loss that it does reach, {loss(own['level'])}, it needs {times(own)} the non-zero "
            "weights of FTRL-Proximal."
        )
    return text
