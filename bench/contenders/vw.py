"""Vowpal Wabbit: ``--ftrl`` on its own text format, parser and learner on a thread each, as it comes.

The features are those of the criteo schema: each value a token, counts in log buckets.
"""

from __future__ import annotations

import importlib
import time
from itertools import islice
from typing import Any

from bench.contenders.base import ALPHA, BETA, L1, L2, Job, Measures, call_times, new_path

# The compiled module alone: the package around it would only add to the start-up.
NEEDS = "pylibvw"


def learn_file(job: Job) -> Measures:
    """From a text file to a model file."""
    model = job.get("model") or new_path(job, "model")
    return _run(["-d", job["vw"], "-f", str(model) + ".vw", *_settings(job)])


def score_file(job: Job) -> Measures:
    """From a text file to a file of probabilities."""
    return _run(["-t", "-d", job["vw"], "-i", job["model"] + ".vw", "-p", new_path(job, "scores"),
                 "--link", "logistic"])  # fmt: skip


def learn_one(job: Job) -> Measures:
    """One line of text at a time."""
    workspace, lines = _open(["--no_stdin", *_settings(job)]), _lines(job)

    def learn(i: int) -> None:
        examples = workspace._parse(lines[i])
        workspace.learn(examples[0])
        workspace._finish_example(examples[0])

    return call_times("event", learn, len(lines))


def score_one(job: Job) -> Measures:
    """One line of text at a time."""
    workspace, lines = _open(["--no_stdin", *_settings(job)]), _lines(job)

    def score(i: int) -> None:
        examples = workspace._parse(lines[i])
        workspace.predict(examples[0])
        workspace._finish_example(examples[0])

    return call_times("event", score, len(lines))


def _settings(job: Job) -> list[str]:
    numbers = ["--ftrl_alpha", ALPHA, "--ftrl_beta", BETA, "--l1", L1, "--l2", L2, "-b", job["bits"]]
    return ["--ftrl", "--loss_function", "logistic", *map(str, numbers)]


def _open(words: list[str]) -> Any:
    return importlib.import_module("pylibvw").vw(["--quiet", *words])


def _run(words: list[str]) -> Measures:
    started = time.perf_counter()
    workspace = _open(words)
    workspace.run_parser()
    rows = workspace.get_weighted_examples()
    loss = workspace.get_sum_loss() / max(rows, 1.0)
    workspace.finish()
    return {"rows": rows, "seconds": time.perf_counter() - started, "log_loss": loss}


def _lines(job: Job) -> list[str]:
    with open(job["vw"], encoding="ascii") as lines:
        return [line.rstrip("\n") for line in islice(lines, job["events"])]
