"""Scoring touches no memory beyond its arrays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ftrl_engine.jit import COMPILED
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.skipif(not COMPILED, reason="plain Python looks at every index"),
    pytest.mark.skipif(os.name != "posix", reason="needs mprotect"),
]


def test_nothing_beyond_the_arrays_is_touched() -> None:
    command = [sys.executable, "-m", "tests.guarded_scorer"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
