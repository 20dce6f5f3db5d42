"""Logging in and encryption against the real broker; no secret is ever shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftrl_engine import cli
from tests.kafka_broker import PASSWORD, USER, Broker
from tests.kafka_topic import CLIENTS, Topic

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

JAAS = "org.apache.kafka.common.security.scram.ScramLoginModule required username={} password={};"


@pytest.fixture(scope="module")
def topic(kafka_broker: Broker) -> Iterator[Topic]:
    with Topic(kafka_broker.address) as topic:
        topic.send([json.dumps({"id": f"e{n}", "label": n % 2}).encode() for n in range(200)])
        yield topic


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def properties(broker: Broker, kind: str, password: str = PASSWORD) -> dict[str, str]:
    found = {"sasl.username": USER, "sasl.password": password, "security.protocol": "SASL_PLAINTEXT"}
    if kind == "tls":
        found |= {"security.protocol": "SASL_SSL", "ssl.ca.location": str(broker.ca_file)}
    elif kind == "jaas":
        found = {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.jaas.config": JAAS.format(f'"{USER}"', f'"{password}"'),
        }
    return found | {"sasl.mechanism": "PLAIN" if kind == "plain" else "SCRAM-SHA-256"}


@pytest.mark.parametrize(
    ("kind", "where"),
    [("plain", "file"), ("scram", "file"), ("jaas", "file"), ("tls", "file"), ("scram", "environment")],
)
def test_a_login_works_and_leaves_no_secret_behind(
    kafka_broker: Broker, topic: Topic, client: str, kind: str, where: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    address = kafka_broker.tls_address if kind == "tls" else kafka_broker.sasl_address
    uri, model = f"kafka://{address}/{topic.name}?client={client}", tmp_path / "model"
    words = ["learn", uri, "--model", str(model), "--json", "--bits", "16"]
    given = properties(kafka_broker, kind)
    if where == "file":
        file = tmp_path / "client.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        words += ["--kafka", str(file)]
    else:
        for name, value in given.items():
            monkeypatch.setenv("FTRL_KAFKA_" + name.upper().replace(".", "_"), value)
    with caplog.at_level(logging.INFO):
        assert cli.main(words) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["rows"] == 200
    kept = b"".join(path.read_bytes() for path in model.rglob("*") if path.is_file())
    for text in (said.out, said.err, caplog.text, kept.decode("latin-1")):
        assert PASSWORD not in text


def test_a_wrong_password_is_a_clear_error_without_it(
    kafka_broker: Broker, topic: Topic, client: str, tmp_path: Path,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    wrong = "wrong-but-secret"
    file = tmp_path / "client.properties"
    given = properties(kafka_broker, "scram", wrong)
    file.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    uri = f"kafka://{kafka_broker.sasl_address}/{topic.name}?client={client}&give_up_after=2s"
    with caplog.at_level(logging.INFO):
        assert cli.main(["learn", uri, "--model", str(tmp_path / "m"), "--kafka", str(file)]) == 1
    said = capfd.readouterr()
    assert "sasl" in said.err.splitlines()[-1].lower()
    assert wrong not in said.out + said.err + caplog.text


def test_a_certificate_of_another_authority_is_refused(
    kafka_broker: Broker, topic: Topic, client: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = properties(kafka_broker, "tls")
    del given["ssl.ca.location"]
    file = tmp_path / "client.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    uri = f"kafka://{kafka_broker.tls_address}/{topic.name}?client={client}&give_up_after=2s"
    assert cli.main(["learn", uri, "--model", str(tmp_path / "m"), "--kafka", str(file)]) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert "ssl" in last.lower()
    assert PASSWORD not in last


def test_wrong_usage_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(tmp_path / "m")]
    for words, text in (
        (["learn", "a.jsonl", *model, "--kafka", "x"], "nothing here is a kafka:// address"),
        (["learn", "a.jsonl", *model, "--start", "latest"], "are for kafka:// sources"),
        (["learn", "kafka://h:1/t", *model, "--kafka", str(tmp_path / "none")], "cannot be read"),
        (["learn", "kafka://u:hunter2@h:1/t", *model], "holds no user name"),
        (["simulate", "--to", "kafka://h:1/t?pack=0"], "pack must be"),
        (["simulate", "--to", "kafka://h:1/t?acks=0"], "not known for a destination"),
    ):
        assert cli.main(words) == 2, words
        said = capsys.readouterr().err
        assert text in said
        assert "hunter2" not in said
