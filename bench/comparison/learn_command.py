"""The `ftrl learn` that uses the settings which a comparison found."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from bench.comparison.defaults import BITS
from bench.comparison.method import REFERENCE

# Those that `ftrl learn` has a flag for; the others are given as --set NAME=VALUE.
_FLAGS = ("alpha", "beta", "l1", "l2", "intercept")


def learn_commands(args: argparse.Namespace, contenders: Mapping[str, Any]) -> dict[str, str]:
    """For every learner of ours the command with its chosen settings, on the same source and schema.

    --limit is left out: what was tried on a part is to be used on all.
    """
    return {
        name: _command(args, facts["learner"], facts["settings"])
        for name, facts in contenders.items()
        if facts.get("learner") is not None
    }


def _command(args: argparse.Namespace, learner: str, settings: Mapping[str, float | str]) -> str:
    words = ["ftrl", "learn", *args.source]
    for name in ("schema", "format", "kafka"):
        value = getattr(args, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    words += ["--model", "model"]
    words += ["--bits", str(args.bits)] if args.bits != BITS else []
    words += ["--learner", learner] if learner != REFERENCE else []
    for name, value in settings.items():
        text = f"{value:.17g}" if isinstance(value, float) else str(value)
        if isinstance(value, float) and float(f"{value:g}") == value:
            text = f"{value:g}"
        words += [f"--{name}", text] if name in _FLAGS else ["--set", f"{name}={text}"]
    return shlex.join(words)
