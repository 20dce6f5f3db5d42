"""Where reading a topic begins: at the saved positions, checked against what the broker holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ftrl_engine.errors import LostDataError, SourceError, SourceUnavailableError
from streams.kafka_client import EARLIEST, LATEST, KafkaClient, Topic
from streams.kafka_options import KafkaOptions
from streams.kafka_patience import Patience
from streams.kafka_positions import PartitionName, offset_of, position_of
from streams.source import Refusal

_CURE = (
    "--on-lost-data skip goes on with what is left and counts what was lost; "
    "to keep everything, learn into a new model"
)


@dataclass(slots=True)
class Beginning:
    """positions  of every partition to read
    lost       how many messages are gone that should have been read
    reports    for rejected.jsonl: which ones
    anchored   the positions depend on when they were asked for, so they must be saved at once
    """

    positions: dict[int, int]
    lost: int = 0
    reports: list[Refusal] = field(default_factory=list)
    anchored: bool = False


def existing_topic(
    client: KafkaClient, uri: str, name: str, options: KafkaOptions, follow: bool, patience: Patience
) -> Topic:
    """The topic with the partitions to read; when following, it may be made a little later."""
    while True:
        error: SourceError
        try:
            topic = client.topic()
            if topic is not None and topic.partitions >= (options.partitions or frozenset((0,))):
                patience.answered()
                return topic
            error = _missing(topic, uri, name, options)
            if not follow:
                raise error
        except SourceUnavailableError as unavailable:
            error = unavailable
        patience.wait(error)


def _missing(topic: Topic | None, uri: str, name: str, options: KafkaOptions) -> SourceError:
    if topic is None:
        return SourceError(f"{uri}: the broker has no topic {name}; check the name or make it first")
    missing = sorted((options.partitions or {0}) - topic.partitions)
    return SourceError(
        f"{uri}: topic {name} has {len(topic.partitions)} partitions, none of them "
        f"numbered {', '.join(map(str, missing))}; leave partitions out to read all"
    )


def begin(
    client: KafkaClient, uri: str, name: str, topic: Topic, saved: Mapping[str, int], options: KafkaOptions
) -> Beginning:
    """The beginning of every partition to read; LostDataError where events are gone.

    A partition without a position is begun at its first event if others of the topic have one:
    it is new, and what was sent to it while nobody read is not lost.
    """
    numbers = sorted(topic.partitions if options.partitions is None else options.partitions)
    known, older = _saved(name, topic.topic_id, saved)
    earliest, latest = client.offsets(numbers, EARLIEST), client.offsets(numbers, LATEST)
    result = Beginning({})
    if older and not known:
        text = (
            f"{uri}: the topic {name} was deleted and made again (its identity was {older}, now it is "
            f"{topic.topic_id}); what the old one held beyond the saved positions is gone"
        )
        if not options.skip_lost:
            raise LostDataError(f"{text}: {_CURE}")
        number = numbers[0]
        report = Refusal(
            str(PartitionName(name, number, topic.topic_id)), position_of(earliest[number]), text, b""
        )
        result.reports.append(report)
    if known or older or options.start == EARLIEST:
        first = earliest
    else:
        first = latest if options.start == LATEST else client.offsets(numbers, options.start)
        result.anchored = True
    for number in numbers:
        position = known.get(number, position_of(first[number]))
        result.positions[number] = _checked(
            result, uri, PartitionName(name, number, topic.topic_id), position, earliest[number],
            latest[number], options.skip_lost,
        )  # fmt: skip
    return result


def check_held(
    uri: str, name: PartitionName, position: int, earliest: int, latest: int, skip: bool
) -> Beginning:
    """The same for one partition whose next offset the broker has refused while it was read."""
    result = Beginning({})
    result.positions[name.number] = _checked(result, uri, name, position, earliest, latest, skip)
    return result


def _saved(name: str, topic_id: str, saved: Mapping[str, int]) -> tuple[dict[int, int], str]:
    """The positions in this topic, and the identity of an earlier topic of the same name."""
    known: dict[int, int] = {}
    older = ""
    # Sorted, a name with an identity follows and overrules the same name without one.
    for text, position in sorted(saved.items()):
        found = PartitionName.parse(text)
        if found is None or found.topic != name:
            continue
        if found.topic_id == topic_id or not found.topic_id or not topic_id:
            known[found.number] = position
        else:
            older = found.topic_id
    return known, older


def _checked(
    result: Beginning, uri: str, name: PartitionName, position: int, earliest: int, latest: int, skip: bool
) -> int:
    offset = offset_of(position)
    where = f"{uri}: partition {name.number} of topic {name.topic}"
    if earliest <= offset <= latest:
        return position
    if offset < earliest:
        text = (
            f"{where}: offsets {offset} to {earliest - 1} are gone ({earliest - offset} messages, removed by "
            f"the topic's retention); the first one held is {earliest}"
        )
        start, lost = earliest, earliest - offset
    else:
        text = (
            f"{where}: learning stands at offset {offset}, but the partition ends at {latest}: "
            "it was cut off or replaced"
        )
        start, lost = latest, 0
    if not skip:
        raise LostDataError(f"{text}: {_CURE}")
    result.lost += lost
    result.reports.append(Refusal(str(name), position, text, b""))
    return position_of(start)
