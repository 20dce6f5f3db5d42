"""The questions about Algorithm 1: a reference that is right, ours that passes, and faults that are found."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import conformance
from bench.conformance import ask, ask_all
from bench.questions import QUESTIONS, Reference, Wrong, tokens
from bench.subjects import base, ftrl_engine
from bench.subjects.base import Event, NotAsked, find_subject, missing, subject_names
from ftrl_engine import cli
from ftrl_engine.jit import COMPILED
from ftrl_engine.losses import sigmoid

pytestmark = pytest.mark.skipif(not COMPILED, reason="needs compiled learners")


def test_the_reference_gives_the_golden_trace() -> None:
    reference = Reference(alpha=0.1, beta=1.0, l1=0.05, l2=0.1)
    events = [
        Event(((0, 1.0), (1, 1.0)), 1),
        Event(((0, 1.0), (2, 0.5)), 0),
        Event(((0, 1.0), (1, 1.0), (2, 2.0)), 1),
        Event(((1, 1.0),), 0),
        Event(((0, 1.0),), 1),
    ]
    found = [reference.learn(event) for event in events]
    expected = [0.5, 0.5074497797764443, 0.499474698711796, 0.5147318246141906, 0.5067380738138705]
    assert found == pytest.approx(expected, rel=1e-14)
    assert reference.z == pytest.approx(
        {0: -1.085216145257641, 1: -0.6463186251295066, 2: -0.6217465293237762}
    )
    assert reference.n == pytest.approx({0: 1.00133818404966, 1: 0.7654744285003013, 2: 1.06647862866738})


def test_ours_passes_everything() -> None:
    answers = ask("ftrl-engine", 1_000_000)
    assert set(answers) == set(QUESTIONS)
    assert {question: a for question, a in answers.items() if a["answer"] != "passed"} == {}


class Faulty(ftrl_engine.Subject):
    """Ours with a fault, to see that each question finds one."""

    fault = ""

    def learn(self, event: Event) -> float:
        if self.fault == "values":
            event = event._replace(features=tuple((slot, 1.0) for slot, _ in event.features))
        if self.fault == "importance":
            event = event._replace(importance=1.0)
        if self.fault == "duplicates":
            event = event._replace(features=tuple(dict(event.features).items()))
        lagging = self.margin(event)
        found = super().learn(event)
        return lagging if self.fault == "predictions" else found

    def margin(self, event: Event) -> float:
        """The prediction with weights as they were one event earlier for this slot: always one half."""
        return 0.5

    def learn_many(self, events: Sequence[Event]) -> None:
        super().learn_many(list(reversed(events)) if self.fault == "many at once" else events)

    def weights(self, slots: int) -> list[float]:
        found = super().weights(slots)
        if self.fault in ("exact zeros", "back to zero"):
            return [weight or 1e-9 for weight in found]
        return found

    def saved_and_opened(self, path: Path) -> ftrl_engine.Subject:
        if self.fault == "resume":
            return ftrl_engine.Subject(self.alpha, self.beta, self.l1, self.l2)
        return super().saved_and_opened(path)

    def learn_always_on(self, labels: NDArray[np.float64], times: int, directory: Path) -> float:
        found = super().learn_always_on(labels, times, directory)
        return found * 1.03 if self.fault == "calibration" else found


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_finds_a_fault(question: str, tmp_path: Path) -> None:
    if question == "l2":

        def make(alpha: float, beta: float, l1: float, l2: float) -> ftrl_engine.Subject:
            return ftrl_engine.Subject(alpha, beta, l1, 2.0 * l2)
    else:

        def make(alpha: float, beta: float, l1: float, l2: float) -> ftrl_engine.Subject:
            faulty = Faulty(alpha, beta, l1, l2)
            faulty.fault = question
            return faulty

    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    QUESTIONS[question](ftrl_engine.Subject, tmp_path / "right", 1_000_000)
    with pytest.raises(Wrong):
        QUESTIONS[question](make, tmp_path / "wrong", 1_000_000)


@pytest.mark.parametrize("name", [name for name in subject_names() if name != "ftrl-engine"])
def test_others_answer_every_question(name: str) -> None:
    if missing(name) is not None:
        pytest.skip(f"{name} is not installed")
    answers = ask(name, 10_000)
    assert set(answers) == set(QUESTIONS)
    assert all(answer["answer"] in ("passed", "failed", "not asked") for answer in answers.values())
    assert all(answer["detail"] for answer in answers.values())
    # What these programs are known for; a fixed one will show here.
    known = {
        "river": "predictions",
        "vw": "resume",
        "datatable": "duplicates",
        "datatable-float64": "duplicates",
    }
    assert answers[known[name]]["answer"] == "failed"


def test_programs_outside_get_the_same_weights_as_the_reference() -> None:
    for name in ("vw", "datatable"):
        if missing(name) is not None:
            continue
        subject = find_subject(name).Subject(0.1, 1.0, 0.3, 0.0)
        reference = Reference(0.1, 1.0, 0.3, 0.0)
        for event in tokens(100):
            assert subject.learn(event) == pytest.approx(reference.learn(event), abs=2e-4)
        expected = [reference.weight(slot) for slot in range(12)]
        assert subject.weights(12) == pytest.approx(expected, abs=1e-4)


def test_a_question_that_cannot_be_asked_has_a_reason() -> None:
    if missing("river") is not None:
        pytest.skip("river is not installed")
    subject = find_subject("river").Subject(0.1, 1.0, 0.3, 0.0)
    with pytest.raises(NotAsked, match="once"):
        subject.learn(Event(((1, 1.0), (1, 1.0)), 1))


def fake_process(answers: dict[str, Any]) -> Any:
    class Done:
        returncode = 0
        stderr = ""

    def run(command: list[str], **more: object) -> Done:
        done = Done()
        name = command[command.index("--subject") + 1]
        if name == "vw":
            done.returncode, done.stderr = 1, "Traceback\nMemoryError: no memory left\n"
        done.stdout = "\n" + json.dumps(answers)  # type: ignore[attr-defined]
        return done

    return run


@pytest.mark.parametrize("ours", ["passed", "failed"])
def test_the_command_says_whether_ours_passed(
    ours: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {question: {"answer": ours, "detail": "because"} for question in QUESTIONS}
    monkeypatch.setattr("subprocess.run", fake_process(answers))
    monkeypatch.setattr(conformance, "missing", lambda name: "absent" if name == "river" else None)
    status = cli.main(["compare", "--conformance", "--quick", "--json", "--quiet"])
    assert status == (0 if ours == "passed" else 1)
    found = json.loads(capsys.readouterr().out)
    assert found["events"] == conformance.QUICK_EVENTS
    assert set(found["subjects"]) == set(subject_names())
    assert found["subjects"]["river"]["resume"] == {"answer": "skipped", "detail": "absent"}
    assert found["subjects"]["vw"]["resume"]["detail"] == "MemoryError: no memory left"
    assert conformance.main(["--events", "10000", "--quiet"]) == status
    text = capsys.readouterr().out
    assert "vw skipped: MemoryError: no memory left" in text
    assert ("ftrl-engine, l2: failed: because" in text) == (ours == "failed")


def test_it_runs_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "subject_names", lambda: ["ftrl-engine"])
    found = ask_all(1_000_000)
    assert found["ftrl-engine"]["resume"]["answer"] == "passed"


def test_a_source_and_conformance_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["compare"], ["compare", "events.jsonl", "--conformance"]):
        assert cli.main(words) == cli.USAGE
        assert "name a SOURCE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        conformance.main(["--events", "5"])
    assert "--events must be between 10,000" in capsys.readouterr().err


def test_subjects_are_discovered() -> None:
    assert subject_names()[0] == "ftrl-engine"
    assert {"vw", "river", "datatable", "datatable-float64"} <= set(subject_names())
    assert issubclass(find_subject("ftrl-engine").Subject, base.BaseSubject)
    assert math.isclose(float(sigmoid(0.0)), 0.5)
