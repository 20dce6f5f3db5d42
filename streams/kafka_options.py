"""What a user may say about reading a topic, in the query part of the address or by flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ftrl_engine.errors import ConfigError
from streams.cadence import parse_duration
from streams.kafka_client import EARLIEST, LATEST
from streams.kafka_connection import choose_client
from streams.kafka_properties import KafkaProperties

MAX_PARTITIONS = 10_000
PROPERTY = "property."
_NAMES = ("start", "partitions", "group", "client", "on_lost_data", "give_up_after", "refresh")


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """start  EARLIEST, LATEST or milliseconds since 1970: where a topic is begun on first contact
    partitions  a subset of the topic; None: all, new ones included
    group  told of every checkpoint for lag tools; None: nobody is told
    client  the library to use
    skip_lost  go on at what is left where events are gone, instead of stopping
    give_up_after  seconds without an answer from a broker until the source fails
    refresh  seconds between two looks at the topic
    """

    start: int
    partitions: frozenset[int] | None
    group: str | None
    client: str
    skip_lost: bool
    give_up_after: float
    refresh: float


def read_options(
    query: Mapping[str, str], flags: Mapping[str, str], properties: KafkaProperties
) -> KafkaOptions:
    """Options of the address, overruled by flags of the same name."""
    given = dict(query)
    for name in given:
        if name not in _NAMES:
            raise ConfigError(f"kafka:// option {name!r} is not known; known are {', '.join(_NAMES)}")
    given |= {name: value for name, value in flags.items() if name in _NAMES}
    lost = given.get("on_lost_data", "stop")
    if lost not in ("stop", "skip"):
        raise ConfigError(f"on_lost_data must be stop or skip, got {lost!r}")
    group = given.get("group", properties.get("group.id") or flags.get("default_group"))
    return KafkaOptions(
        start=_start(given.get("start", "earliest")),
        partitions=_partitions(given.get("partitions")),
        group=group or None,
        client=choose_client(given.get("client")),
        skip_lost=lost == "skip",
        give_up_after=parse_duration(given.get("give_up_after", "60s"), "give_up_after"),
        refresh=parse_duration(given.get("refresh", "5s"), "refresh"),
    )


def read_extra_properties(flags: Mapping[str, str]) -> KafkaProperties:
    """The properties that the command line or the environment gave."""
    return KafkaProperties(
        {name.removeprefix(PROPERTY): value for name, value in flags.items() if name.startswith(PROPERTY)}
    )


def _start(text: str) -> int:
    if text in ("earliest", "latest"):
        return EARLIEST if text == "earliest" else LATEST
    if text.isdecimal():
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            "start must be earliest, latest, milliseconds since 1970 or a time such as "
            f"2026-01-31T12:00:00Z, got {text!r}"
        ) from None
    # A time without a zone is UTC: the same command means the same everywhere.
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    milliseconds = int(at.timestamp() * 1000)
    if milliseconds < 0:
        raise ConfigError(f"start must be a time after 1970, got {text!r}")
    return milliseconds


def _partitions(text: str | None) -> frozenset[int] | None:
    """``0,2,5-7``."""
    if text is None:
        return None
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise ConfigError(f"partitions must be like 0,2,5-7, got {text!r}")
        last = int(high) if dash else int(low)
        if not int(low) <= last < int(low) + MAX_PARTITIONS:
            raise ConfigError(f"partitions: {part!r} is not a range of at most {MAX_PARTITIONS} numbers")
        found.update(range(int(low), last + 1))
    return frozenset(found)
