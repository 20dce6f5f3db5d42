"""Measurements in this process, and the form of what they give."""

from __future__ import annotations

import io
import math
import sys
import time
import warnings
from contextlib import redirect_stdout
from typing import Any

import pytest

from bench import speed, worker
from bench.result import Outcome
from bench.speed import run_process
from ftrl_engine import cli


def run_here(command: list[str]) -> Outcome:
    """What run_process does, in this process: the same code, without half a minute of imports."""
    if command[1:3] not in (["-m", "bench.worker"], ["-m", "ftrl_engine"]):
        return run_process(command)
    started = time.perf_counter()
    with redirect_stdout(io.StringIO()) as stdout, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rivals may warn of what they like
        if command[2] == "bench.worker":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", command[2:])
                status = worker.main()
        else:
            try:
                status = cli.main(command[3:])
            except SystemExit as end:
                status = int(end.code or 0)
    return speed.outcome_of(status, stdout.getvalue(), "", time.perf_counter() - started)


def check(result: dict[str, Any], group: str) -> None:
    """The JSON of the contract."""
    head = {"group", "name", "contender", "unit"}
    assert result["group"] == group
    assert all(isinstance(result[key], str) for key in head)
    if "skipped" in result:
        assert set(result) == head | {"skipped"}
        assert result["skipped"]
    else:
        assert set(result) == head | {"median", "min", "max", "runs"}
        assert 0 < result["min"] <= result["median"] <= result["max"] < math.inf
        assert result["runs"] >= 1
