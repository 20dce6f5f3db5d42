"""What all tests share: hypothesis profiles and the optional real data."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.kafka_broker import Broker, NoBrokerError

ROOT = Path(__file__).resolve().parent.parent

# Times on a shared machine say nothing, so no example has a deadline.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", parent=_UNTIMED, max_examples=25)
settings.register_profile("ci", parent=_UNTIMED, max_examples=100, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of real logged data, which may not be redistributed and so is often absent."""
    directory = ROOT.parent / "shared" / "data"
    if not directory.is_dir():
        pytest.skip("real data is not here: no directory ../shared/data beside the repository")
    return directory


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real broker that every test shares; where none can be started, CI fails and others skip."""
    try:
        broker = Broker(tmp_path_factory.mktemp("kafka") / "broker", secure=True)
        broker.start()
    except NoBrokerError as error:
        if os.environ.get("CI"):
            pytest.fail(f"the Kafka tests are required here: {error}")
        pytest.skip(f"no Kafka broker: {error}; or name one with KAFKA_BOOTSTRAP_SERVERS")
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def kafka_servers(request: pytest.FixtureRequest) -> str:
    """The address of the broker to test with: KAFKA_BOOTSTRAP_SERVERS, else one of our own."""
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        return named
    broker: Broker = request.getfixturevalue("kafka_broker")
    return broker.address


@pytest.fixture(autouse=True)
def kafka_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """kafka-python leaves sockets of failed connections to the garbage collector; not in a later test."""
    yield
    if request.node.get_closest_marker("kafka"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
