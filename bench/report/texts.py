"""What a report says whatever was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.report.words import count, loss, percent

Found = Mapping[str, Any]

TITLE = "FTRL-Proximal and other ways to learn sparse models"

_HOW = (
    "FTRL-Proximal (follow the regularized leader, McMahan et al. 2013) is a way to learn a model from a "
    "stream of events, one at a time, that keeps most weights at exactly zero. It is compared with other "
    "ways that promise the same: stochastic gradient descent (SGD) with an L1 penalty and its relatives, and "
    "the programs that are installed.",
    "The task: predict for each event, such as an advertisement that was shown, how likely it is that the "
    "label is 1, such as a click. The model is a sum of one weight for each feature of the event, turned "
    "into a probability. Almost all features are rare, and a weight that is exactly zero need not be kept "
    "or served: that is why the number of non-zero weights counts.",
    "One pass: every event is predicted before it is learned from, so every prediction is of an event "
    "that the model has not seen. No separate test set is needed.",
    "The same events, in the same order, with the same features in the same slots for all contenders.",
    "Each contender tried the same number of settings of its learning rate and of what makes it sparse, "
    "chosen by the same rule: rates first, then a grid around the best, then more of it where contenders "
    "are compared. All of them are listed, below and in grid.csv.",
    "A contender is not shown at one point but with its frontier: the lowest log loss it can reach with "
    "so many non-zero weights, a line through its best settings. The figure that counts is how many "
    "non-zero weights two contenders need for the same log loss.",
)

METHODS = {
    "ftrl_proximal": "Sums up gradients; a weight stays exactly zero until its sum exceeds l1 (McMahan et "
    "al. 2013).",
    "ftrl_proximal_2011": "The same with a threshold that grows with every event (McMahan 2011).",
    "sgd_l1": "Gradient descent; a weight pays the whole L1 penalty it owes and stops at zero (Tsuruoka "
    "et al. 2009).",
    "sgd_l1_subgradient": "Gradient descent with a push towards zero: it steps over zero and is never "
    "sparse.",
    "truncated_gradient": "Gradient descent that shrinks small weights now and then (Langford, Li, Zhang "
    "2009).",
    "fobos": "A gradient step, then every weight is shrunk (Duchi, Singer 2009).",
    "adagrad_fobos": "FOBOS with a rate of its own for every weight (Duchi, Hazan, Singer 2011).",
    "rda": "Holds the mean gradient against a threshold, with one rate for all weights (Xiao 2010).",
    "adagrad_rda": "RDA with a rate of its own for every weight (Duchi, Hazan, Singer 2011).",
    "ogd_count": "Ignores a feature until it was seen often enough, and knows no L1 (McMahan et al. 2013).",
}

GLOSSARY = (
    (
        "log loss",
        "Minus the logarithm of the probability that was given to what then happened, averaged. 0 is "
        "perfect.",
    ),
    (
        "normalized entropy",
        "Log loss divided by that of always predicting the mean rate: below 1 something was learned.",
    ),
    ("alpha, rate", "How far one event moves a weight."),
    ("power", "The rate of SGD falls with the number of events to this power."),
    ("AdaGrad", "A rate for each weight, which falls with the squares of its gradients."),
    ("frontier", "The lowest log loss that a contender reaches with so many weights, as a line."),
    ("slot", "Where the weight of a feature stands; a hash of the feature tells it."),
    ("2.0 × [1.5, 2.6]", "Twice the weights of FTRL-Proximal; the 95 % interval is from 1.5 to 2.6 times."),
    ("AUC", "The probability that a positive event gets a higher score than a negative one."),
    ("calibration", "The sum of all predictions divided by the number of positives."),
    ("non-zero weights", "Weights that are not exactly zero at the end, the intercept not counted."),
    ("L1", "A penalty in proportion to the size of a weight; it is what makes weights exactly zero."),
    ("95 % interval", "Where a figure lies in 95 of 100 random mixtures of blocks of these events."),
    ("∞", "In more than 2.5 % of the mixtures the contender does not reach the log loss at all."),
)


def how(found: Found) -> list[str]:
    """What was compared and how, a paragraph each."""
    about = found["about"]
    return [
        *_HOW,
        f"Intervals come from drawing {about['blocks']} blocks of neighbouring events with replacement, "
        f"{count(about['replicates'])} times, the same blocks for all contenders, so that what is hard for "
        "all of them alike does not blur their differences.",
    ]


def subtitle(found: Found) -> str:
    """The data in one line."""
    data = found["data"]
    order = f", {data['shuffles']} passes in random order" if data["shuffles"] else ""
    return (
        f"{', '.join(data['source'])}: {count(data['rows'])} events, {count(data['features'])} different "
        f"features, {percent(data['label_mean'])} positive{order}"
    )


def facts_of(found: Found) -> list[tuple[str, str]]:
    """Data, settings, versions and machine."""
    data, about, machine = found["data"], found["about"], found["about"]["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    return [
        ("events", f"{count(data['rows'])} of {', '.join(data['source'])}, schema {data['schema']}"),
        ("refused", count(data["rejected"])),
        ("features an event", f"{data['features_per_row']:g}"),
        ("hashed to", f"2^{data['bits']} slots, of which {count(data['features'])} are used"),
        ("digest of the hashed events", data["digest"]),
        ("log loss of the mean rate", loss(data["constant_log_loss"])),
        ("settings tried", f"at most {about['budget']} for each contender"),
        ("tolerance", f"{percent(about['tolerance'])} of the lowest log loss"),
        (
            "bootstrap",
            f"{about['blocks']} blocks, {count(about['replicates'])} mixtures, seed {about['seed']}",
        ),
        ("versions", f"Python {machine['python']}, {packages}"),
        ("finished settings", "kept in work/ beside this page, so that the command goes on; may be deleted"),
        ("load of the machine before", f"{machine['load_before']:.1f}"),
        ("machine", f"{machine['processor']}, {machine['usable_cores']} cores, {machine['system']}"),
    ]
