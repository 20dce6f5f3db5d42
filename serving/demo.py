"""Demo: clicks -> log -> `ftrl learn` -> snapshots -> `ftrl serve` -> scores, all at once."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ftrl_engine.errors import FtrlError
from serving.demo_events import EventWriter, good_event
from serving.demo_processes import Client, Command, wait_until
from serving.demo_view import DemoView, Moment
from streams.simulate import ClickStream
from streams.stopping import Stop

# Compiling on a slow or busy machine takes minutes at worst.
START_SECONDS = 600.0
_SILENT_SECONDS = 2.0
_CATCH_UP_SECONDS = 10.0
_EVERY = 1.0


class Interrupted(Exception):
    """A signal has asked for the end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo has done.

    learned  the JSON of `ftrl learn`; moments: what was shown; event: the fixed one
    """

    learned: dict[str, Any]
    moments: list[Moment]
    event: dict[str, Any]
    best: float | None
    seconds: float
    start_seconds: float
    reloads: int

    def facts(self, kept: Path | None) -> dict[str, Any]:
        """Plain data for JSON."""
        rate = self.learned["label_mean"]
        constant = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate) if 0 < rate < 1 else None
        return {
            "rows": self.learned["rows"],
            "rejected": self.learned["rejected"],
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.learned["rows"] / self.seconds, 1),
            "start_seconds": round(self.start_seconds, 3),
            "log_loss": self.learned["log_loss"],
            "best_log_loss": self.best,
            "constant_log_loss": constant,
            "calibration": self.learned["calibration"],
            "nonzero_weights": self.learned["nonzero_weights"],
            "snapshots_served": self.reloads,
            "score": {
                "first": self.moments[0].score,
                "last": self.moments[-1].score,
                "true": self.moments[-1].true,
                "event": self.event,
            },
            "largest_age_seconds": max(moment.age for moment in self.moments),
            "kept": None if kept is None else str(kept),
        }


class Demo:
    """The loop in ``folder``; every process ends with the ``with`` block, whatever happens in it."""

    def __init__(self, folder: Path, rate: float, seed: int, view: DemoView, stop: Stop) -> None:
        self._folder, self._view, self._stop = folder, view, stop
        stream = ClickStream(seed=seed)
        self._event, self._true = good_event(stream)
        self._writer = EventWriter(folder / "events", stream, rate)
        self._commands: list[Command] = []
        self._reloads = 0

    def __enter__(self) -> Demo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as ends:
            ends.callback(self._writer.stop)
            for command in self._commands:
                ends.callback(command.end)

    def run(self, seconds: float) -> Outcome | None:
        """Run for ``seconds`` after everything is up; None where a signal has ended it."""
        try:
            return self._run(seconds)
        except Interrupted:
            return None

    def _run(self, seconds: float) -> Outcome:
        began = time.monotonic()
        learn, serve, client = self._start()
        started = time.monotonic()
        self._view.say(
            f"the event asked for: item {self._event['item_id']} for user {self._event['user_id']}, "
            f"true click probability {self._true:.4f}"
        )
        moments = [self._moment(client, 0.0, None)]
        self._writer.release()
        while (passed := time.monotonic() - started) < seconds:
            if self._stop.wait(min(_EVERY, seconds - passed)):
                raise Interrupted
            self._check()
            moments.append(self._moment(client, time.monotonic() - started, moments[-1]))
            self._view.show(moments[-1])
        ran = time.monotonic() - started
        learned = self._finish(learn)
        self._wait_for_last(client, learned["rows"])
        moments.append(self._moment(client, ran, moments[-1]))
        client.close()
        serve.stop(fine=(0,))
        best = self._writer.best_log_loss(learned["rows"])
        return Outcome(learned, moments, self._event, best, ran, started - began, self._reloads)

    def _start(self) -> tuple[Command, Command, Client]:
        """The writer and both commands, when a first model is served."""
        self._writer.start()
        model = str(self._folder / "model")
        learn = self._command(
            "learn", f"log:{self._folder / 'events'}", "--schema", "clicks", "--model", model, "--follow",
            "--publish-every", "500ms", "--checkpoint-every", "5s", "--json", "--quiet",
        )  # fmt: skip
        serve = self._command(
            "serve", "--model", model, "--port", "0", "--reload-every", "100ms", "--json", "--quiet"
        )
        self._say_after = time.monotonic() + _SILENT_SECONDS
        wait_until(
            lambda: serve.facts() is not None, START_SECONDS, "the start of the server", self._check_start
        )
        facts = serve.facts() or {}
        client = Client(facts["host"], facts["port"])
        wait_until(
            lambda: client.ask("GET", "/readyz")[0] == 200, START_SECONDS, "a first model", self._check_start
        )
        return learn, serve, client

    def _command(self, name: str, *arguments: str) -> Command:
        command = Command(self._folder / "output", name, *arguments)
        self._commands.append(command)
        return command

    def _check_start(self) -> None:
        self._check()
        if self._say_after < time.monotonic():
            self._say_after = math.inf
            self._view.say("compiling, once for this version on this machine ...")

    def _check(self) -> None:
        """Raise where a part of the loop has failed, or a signal has come."""
        if self._stop.is_set():
            raise Interrupted
        for command in self._commands:
            command.check()
        if self._writer.error is not None:
            raise FtrlError(f"the events cannot be written: {self._writer.error}")

    def _moment(self, client: Client, seconds: float, last: Moment | None) -> Moment:
        """Ask the server for the score of the event and for its model."""
        status, answer = client.ask("POST", "/score", {"context": self._event})
        if status != 200:
            raise FtrlError(f"the server answers {status}: {answer.get('error')}")
        _, model = client.ask("GET", "/model")
        self._reloads = model["reloads"]
        rows, metrics = model["rows"], model["metrics"]
        passed = seconds - last.seconds if last else 0.0
        return Moment(
            seconds=seconds,
            rows=rows,
            rows_per_second=(rows - last.rows) / passed if last and passed > 0 else 0.0,
            log_loss=metrics["log_loss"],
            best=self._writer.best_log_loss(rows),
            calibration=metrics["calibration"],
            nonzero_weights=model["nonzero_weights"],
            age=answer["model"]["age_seconds"],
            score=answer["scores"][0],
            true=self._true,
        )

    def _finish(self, learn: Command) -> dict[str, Any]:
        """No more events; the learner checkpoints, publishes and says what it has learned."""
        self._writer.stop()
        learn.stop(fine=(0, 130))
        self._commands.remove(learn)
        learned = learn.facts()
        if learned is None:
            raise FtrlError("`ftrl learn` has ended without its JSON; see its message above")
        return learned

    def _wait_for_last(self, client: Client, rows: int) -> None:
        wait_until(
            lambda: client.ask("GET", "/readyz")[1].get("rows") == rows,
            _CATCH_UP_SECONDS,
            "serving the last model",
            self._check,
        )
