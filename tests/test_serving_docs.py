"""What docs/serving.md, the systemd unit and the Dockerfile say is what the command takes."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from serving import serve_command
from serving.metrics import Metrics
from serving.server_state import FeedbackState, LearnerState, ServerState
from serving.store import SnapshotStore
from tests.test_serving_app import publish

DOCS = Path(__file__).resolve().parent.parent / "docs"


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(exit_on_error=False)
    serve_command.add_arguments(found)
    return found


def test_every_flag_is_documented_and_every_documented_flag_exists() -> None:
    text = (DOCS / "serving.md").read_text()
    flags = {word for action in parser()._actions for word in action.option_strings if word.startswith("--")}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))
    assert flags <= named
    assert named - flags == {"--follow", "--build-arg", "--now", "--probes"} & named


def test_the_documented_limits_are_the_defaults() -> None:
    defaults = {action.option_strings[0]: action.default for action in parser()._actions}
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \| (\S+) \|", (DOCS / "serving.md").read_text(), re.MULTILINE)
    checked = {flag: str(defaults[flag]) for flag, default in rows if default[0].isdigit()}
    assert checked == {flag: default for flag, default in rows if default[0].isdigit()}
    assert len(checked) >= 11


def test_the_unit_and_the_image_run_commands_that_exist() -> None:
    unit = (DOCS / "ftrl-serve.service").read_text().replace("\\\n", " ")
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    image = (DOCS / "Dockerfile").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^CMD (\[.*\])$", image, re.MULTILINE)
    (yaml,) = re.findall(r"args: \[(.*)\]", (DOCS / "serving.md").read_text())
    for words in (shlex.split(start)[1:], json.loads(command), shlex.split(yaml.replace(",", " "))):
        assert words[0] == "serve"
        args = parser().parse_args(words[1:])
        assert serve_command.settings_of(argparse.Namespace(**vars(args) | {"token_file": None})).workers >= 1
        serve_command.learn_options(args)


def test_the_metrics_that_are_documented_are_there(tmp_path: Path) -> None:
    publish(tmp_path, 5)
    store = SnapshotStore(tmp_path)
    store.refresh()
    state = ServerState(learner=LearnerState("log:x"), feedback=FeedbackState("log:x"))
    metrics = Metrics(store, lambda: 0.0, state=state)
    metrics.count_request("other", 404)
    body, _ = metrics.text()
    found = {family.name for family in text_string_to_metric_families(body.decode())}
    ours = {name for name in found if name.startswith("ftrl_")}
    text = (DOCS / "serving.md").read_text()
    table = text[text.index("## Metrics") : text.index("Alert on")]
    documented = set()
    for cell in re.findall(r"^\| (`ftrl_[^|]*)\|", table, re.MULTILINE):
        first, *rest = re.findall(r"`([a-z_]+)", cell)
        stem = {"ftrl_model_ready": "ftrl_model", "ftrl_model_log_loss": "ftrl_model"}.get(first)
        stem = stem or ("ftrl_learner" if first.startswith("ftrl_learner") else "ftrl_feedback")
        documented |= {first, *(name if name.startswith("ftrl_") else stem + name for name in rest)}
    documented = {name.removesuffix("_total") for name in documented}
    told = {
        "ftrl_model_calibration",
        "ftrl_learner_lag",
        "ftrl_learner_lag_bytes",
        "ftrl_learner_lost",
        "ftrl_learner_event_age_seconds",
    }
    assert documented - ours <= told, "what only some snapshots know"
    assert ours - documented == set()
