"""A broker of the tests does not outlive them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

CODE = """
import os, signal, subprocess
from bench.kafka_broker import end_with_parent
child = subprocess.Popen(["sleep", "60"], start_new_session=True, preexec_fn=end_with_parent())
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel is asked, as only Linux can be")
def test_a_killed_parent_leaves_no_broker() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 10.0
    while not ended(pid):
        assert time.monotonic() < deadline, f"{pid} still runs"
        time.sleep(0.02)
