"""Feedback into a real broker: acknowledged before it is answered, each id once, learned from there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.kafka_topic import Topic, blocks_of, opened, records_of
from tests.serving_process import START_SECONDS, serving

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture
def topic(kafka_servers: str) -> Iterator[Topic]:
    with Topic(kafka_servers) as topic:
        yield topic


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_loop_is_closed_over_a_topic(topic: Topic, tmp_path: Path, workers: str) -> None:
    flags = ["--feedback", topic.uri, "--learn", topic.uri, "--workers", workers]
    with (
        serving(tmp_path / "m", *flags) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        body = {"events": [{"click": 1, "user": "u", "id": "a"}, {"click": 0, "user": "v", "id": "b"}]}
        end = time.monotonic() + START_SECONDS
        while (answer := client.post("/feedback", json=body)).status_code == 503:
            assert time.monotonic() < end, answer.text
            time.sleep(0.1)
        assert answer.json() == {"accepted": 2, "duplicates": 0}
        # What is acknowledged is in the topic by now.
        records = [json.loads(record) for record in records_of(blocks_of(opened(topic.uri)))]
        assert [record["click"] for record in records] == [1, 0]
        assert client.post("/feedback", json=body).json() == {"accepted": 0, "duplicates": 2}
        while client.get("/readyz").json().get("rows") != 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert "lag" in client.get("/readyz").json()["source"]
        assert "ftrl_learner_lag" in client.get("/metrics").text
        assert client.post("/score", json={"context": {"user": "u"}}).status_code == 200


def test_a_broker_that_is_away_is_told(tmp_path: Path, topic: Topic) -> None:
    """The port is closed: nothing is stored, and the answer says that nothing is certain."""
    (tmp_path / "events.jsonl").write_text('{"click": 1, "user": "u"}\n')
    from ftrl_engine.cli import main

    assert main(["learn", str(tmp_path / "events.jsonl"), "--model", str(tmp_path / "m"), "--quiet"]) == 0
    destination = "kafka://127.0.0.1:1/clicks?give_up_after=1s"
    with (
        serving(tmp_path / "m", "--feedback", destination) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        answer = client.post("/feedback", json={"click": 1})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.get("/readyz").json()["feedback"]["error"] is not None
        assert client.post("/score", json={"context": {}}).status_code == 200
