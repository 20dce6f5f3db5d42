"""The `ftrl` command in processes that can be killed: ready in milliseconds, because they are forked
from one process in which everything is imported and compiled already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_context: Any = None


def _run(words: Sequence[str], output: str) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from ftrl_engine import cli

    sys.exit(cli.main(list(words)))


def start(words: Sequence[str], output: Path) -> BaseProcess:
    """Run ``ftrl WORDS`` in a process of its own; what it prints is appended to ``output``."""
    global _context
    if _context is None:
        _context = multiprocessing.get_context("forkserver")
        _context.set_forkserver_preload(["tests.kafka_warm"])
    process: BaseProcess = _context.Process(target=_run, args=(list(words), str(output)), daemon=True)
    process.start()
    return process


def warm_up() -> None:
    """Learn a little of each format, so that everything is compiled in this process."""
    from ftrl_engine import cli

    with tempfile.TemporaryDirectory() as name:
        for schema, file, line in (
            ("criteo", "a.tsv", "1\t" + "\t".join(["3"] * 13 + ["0a"] * 26) + "\n"),
            ("auto", "a.jsonl", '{"label": 1, "id": "x", "n": 3, "list": ["a", "b"]}\n'),
        ):
            events = Path(name) / file
            events.write_text(line * 100)
            model = str(Path(name) / schema)
            cli.main(["learn", str(events), "--schema", schema, "--model", model, "--quiet", "--bits", "10"])
