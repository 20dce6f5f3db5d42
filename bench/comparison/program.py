"""Program: a contender outside, in a process of its own, beside the same events and measured alike."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.comparison.method import Configuration
from bench.comparison.outcome import DIVERGED, Outcome, Point
from bench.comparison.outside.base import Skipped
from bench.comparison.tally import Blocks, Tally, blocks_of
from bench.comparison.trial import Trial

# A program that takes longer for one configuration is ended.
TIMEOUT_SECONDS = 300.0
_MAX_REASON = 200
# Linear algebra that is not needed would spin on the other cores.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Program:
    """Asks the process for one configuration after the other; ends it when left.

    trial      the events, their order and their blocks; directory: a new one of its own
    """

    def __init__(self, name: str, trial: Trial, directory: Path) -> None:
        self._name = name
        self._trial = trial
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._orders = max(1, trial.shuffles)

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; another thread that waits for it is told so."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            # What is still unsent has nobody to read it.
            with suppress(BrokenPipeError):
                process.stdin.close()

    def run(
        self, configurations: Sequence[Configuration], report: Callable[[float], None] = lambda share: None
    ) -> Iterator[Outcome]:
        """The outcomes in order. Raises Skipped where the program cannot take part or fails."""
        for done, configuration in enumerate(configurations):
            yield self._outcome(configuration)
            report((done + 1) / len(configurations))

    def _outcome(self, configuration: Configuration) -> Outcome:
        replies: list[dict[str, Any]] = []
        blocks: list[Blocks] = []
        curve: tuple[Point, ...] = ()
        for number in range(self._orders):
            reply = self._ask({"settings": dict(configuration.settings), "order": number})
            replies.append(reply)
            if "failed" in reply:
                return Outcome(configuration, None, failed=reply["failed"])
            path = Path(reply["margins"])
            margins = np.load(path)
            path.unlink()
            measured = self._measured(margins, number)
            if measured is None:
                return Outcome(configuration, None, seconds=reply["seconds"], failed=DIVERGED)
            blocks.append(measured)
            curve = curve or self._curve(margins, number, reply["curve"])
        return Outcome(
            configuration,
            Blocks.mean(blocks),
            float(np.mean([reply["nonzeros"] for reply in replies])),
            float(np.mean([reply["seconds"] for reply in replies])),
            curve=curve,
            peak_mb=max(reply["peak_mb"] for reply in replies),
        )

    def _rows(self, number: int) -> NDArray[np.int64]:
        order = self._trial.order(number)
        return np.arange(len(self._trial.events)) if order is None else order

    def _measured(self, margins: NDArray[np.float64], number: int) -> Blocks | None:
        rows, events = self._rows(number), self._trial.events
        tally = Tally(self._trial.block_count)
        blocks = blocks_of(rows, len(events), self._trial.block_count)
        tally.add(margins, events.labels[rows], events.batch.importance[rows], blocks)
        return None if tally.diverged else tally.blocks()

    def _curve(
        self, margins: NDArray[np.float64], number: int, counts: Sequence[Sequence[int]]
    ) -> tuple[Point, ...]:
        """After each K-th part of the events, with the non-zeros at the last point before it."""
        rows, events = self._rows(number), self._trial.events
        labels, importance = events.labels[rows], events.batch.importance[rows]
        losses = importance * (np.logaddexp(0.0, margins) - labels * margins)
        ends = np.linspace(0, len(rows), self._trial.block_count + 1).astype(np.int64)[1:]
        means = np.cumsum(losses)[ends - 1] / np.cumsum(importance)[ends - 1]
        at = np.array([count[0] for count in counts], dtype=np.int64)
        points = []
        for end, mean in zip(ends.tolist(), means.tolist(), strict=True):
            last = int(np.searchsorted(at, end, side="right")) - 1
            points.append(Point(end, mean, float(counts[last][1]) if last >= 0 else None))
        return tuple(points)

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            answer = self._answers.get(timeout=TIMEOUT_SECONDS)
        except queue.Empty:
            raise Skipped(f"one configuration took longer than {TIMEOUT_SECONDS:.0f} s") from None
        except BrokenPipeError:
            answer = None
        if answer is None:
            raise Skipped(f"failed: {self._complaint()}")
        reply: dict[str, Any] = json.loads(answer)
        if "skipped" in reply:
            raise Skipped(reply["skipped"])
        return reply

    def _start(self) -> subprocess.Popen[str]:
        for number in range(self._orders):
            self._trial.events.save(self._directory / f"order-{number}", self._trial.order(number))
        module = "bench.comparison.outside.process"
        slots = str(self._trial.events.slots)
        with open(self._directory / "stderr", "wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, self._name, str(self._directory), slots],
                env=os.environ | dict.fromkeys(_ONE_THREAD, "1"),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8",
            )  # fmt: skip
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        return self._process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put(None)

    def _complaint(self) -> str:
        lines = (self._directory / "stderr").read_text(errors="replace").strip().splitlines()
        return lines[-1][:_MAX_REASON] if lines else "it ended without a word"
