"""``kafka://HOST:PORT/TOPIC``: read a topic of Apache Kafka, each event exactly once.

The positions saved in a checkpoint alone say where reading goes on: partitions are assigned
and sought, no group is joined, and what is committed to a group is only for lag tools.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from ftrl_engine.errors import ConfigError, LostDataError, SourceError, SourceUnavailableError
from streams.kafka_address import KafkaAddress, parse_address
from streams.kafka_beginning import Beginning, begin, check_held, existing_topic
from streams.kafka_blocks import block_of_messages, empty_block, runs_of, without_tombstones
from streams.kafka_client import EARLIEST, LATEST, Fetched, KafkaClient, OffsetOutOfRange, Topic
from streams.kafka_connection import connect
from streams.kafka_fields import with_fields
from streams.kafka_options import KafkaOptions, read_extra_properties, read_options
from streams.kafka_partitions import ReadPartition, ReadPartitions
from streams.kafka_patience import RETRY_SECONDS, Patience
from streams.kafka_positions import MAX_OFFSET, PartitionName, offset_of, position_of
from streams.source import Block, Positions, Source, SourceOptions

_log = logging.getLogger(__name__)

# Blocks are larger than those of files: each costs the reader Python of its own, beside the client's.
_FILE_BLOCKS = 2


def open(uri: str, positions: Positions, options: SourceOptions) -> KafkaSource:
    """The topic that ``kafka://HOST:PORT/TOPIC`` names, at the saved positions."""
    address = parse_address(uri)
    properties = read_extra_properties(options.extra)
    chosen = read_options(address.options, options.extra, properties)
    servers = address.servers or tuple(filter(None, (properties.get("bootstrap.servers") or "").split(",")))
    if not servers:
        raise ConfigError(
            f"{address.uri}: no broker is named; write kafka://HOST:PORT/TOPIC or give bootstrap.servers in "
            "--kafka FILE.properties"
        )

    def client() -> KafkaClient:
        return connect(chosen.client, servers, address.topic, chosen.group, properties)

    return KafkaSource(KafkaAddress(servers, address.topic), client, positions, chosen, options)


class KafkaSource(Source):
    """Blocks of the events of a topic; each is of one partition, in the order of its offsets.

    Without ``follow`` it ends where the partitions ended when it was opened. Raises LostDataError
    where events to be read are gone, SourceUnavailableError when no broker has answered for
    ``give_up_after`` seconds (when following: only while opening), SourceError where a broker refuses.
    """

    def __init__(
        self,
        address: KafkaAddress,
        client: Callable[[], KafkaClient],
        positions: Positions,
        chosen: KafkaOptions,
        options: SourceOptions,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.uri = address.uri
        # Nothing in a topic tells the format.
        self.format: str = options.format or options.extra.get("schema_format") or "jsonl"
        self._topic_name = address.topic
        self._chosen, self._follow = chosen, options.follow
        self._block_bytes = _FILE_BLOCKS * options.block_bytes
        self._fields = tuple(filter(None, options.extra.get("fields", "").split(",")))
        self._clock, self._sleep, self._wall = clock, sleep, wall
        self._patience = Patience(self.uri, chosen.give_up_after, clock, sleep)
        self._ready: deque[Block] = deque()
        self._partitions = ReadPartitions()
        self._commit: dict[int, int] | None = None
        self._lost = 0
        self._last_event: float | None = None  # seconds since 1970
        self._status: dict[str, float | int | str] = {}
        self._finished = False
        self._looked = clock()
        self._client = self._connected(client)
        try:
            self._topic = existing_topic(
                self._client, self.uri, self._topic_name, chosen, options.follow, self._patience
            )
            self._open_at(positions)
        except BaseException:
            self._client.close()
            raise

    @property
    def finished(self) -> bool:
        return self._finished

    def positions(self) -> dict[str, int]:
        return self._partitions.positions()

    def fraction(self) -> float | None:
        return None if self._follow else self._partitions.fraction()

    def status(self) -> Mapping[str, float | int | str]:
        """Lag in messages, messages lost, seconds since the last event, partitions, client."""
        return self._status

    def acknowledge(self, positions: Positions) -> None:
        """Remember what to tell the group; the thread that polls does it."""
        found = {PartitionName.parse(name): at for name, at in positions.items()}
        self._commit = {
            name.number: offset_of(at)
            for name, at in found.items()
            if name is not None and name.topic == self._topic_name and name.topic_id == self._topic.topic_id
        }

    def poll(self, timeout: float) -> Block | None:
        if not self._ready and not self._finished:
            self._send_commit(wait=False)
            self._look_now_and_then()
            if not self._ready:
                self._fetch(timeout)
        if self._ready:
            block = self._ready.popleft()
            number = PartitionName.parse(block.partition)
            assert number is not None
            self._partitions[number.number].position = block.next
            return block
        # Nothing waits here, and the client has passed the end of every partition.
        if not self._follow and self._partitions.ended(self._client.position):
            self._finished = True
        return None

    def close(self) -> None:
        self._finished = True
        try:
            self._send_commit(wait=True)
        finally:
            self._client.close()

    def _connected(self, client: Callable[[], KafkaClient]) -> KafkaClient:
        while True:
            try:
                return client()
            except SourceUnavailableError as error:
                self._patience.wait(error)

    def _open_at(self, positions: Positions) -> None:
        while True:
            try:
                beginning = begin(
                    self._client, self.uri, self._topic_name, self._topic, positions, self._chosen
                )
                self._start(beginning, bounded=not self._follow)
                return
            except SourceUnavailableError as error:
                self._patience.wait(error)

    def _start(self, beginning: Beginning, bounded: bool) -> None:
        """Read from here on; blocks without rows save positions that could not be found again."""
        ends = self._client.offsets(sorted(beginning.positions), LATEST) if bounded else {}
        for number, position in beginning.positions.items():
            name = str(PartitionName(self._topic_name, number, self._topic.topic_id))
            self._partitions[number] = ReadPartition(name, position, position, ends.get(number))
        self._assign()
        self._take(beginning)

    def _take(self, beginning: Beginning) -> None:
        self._lost += beginning.lost
        for report in beginning.reports:
            _log.warning("%s", report.reason)
        reported = {report.partition for report in beginning.reports}
        for number, position in beginning.positions.items():
            name = self._partitions[number].name
            if beginning.anchored or name in reported:
                refused = tuple(r for r in beginning.reports if r.partition == name)
                self._ready.append(empty_block(name, position, refused))

    def _assign(self) -> None:
        self._client.assign(self._partitions.offsets())

    def _fetch(self, timeout: float) -> None:
        try:
            fetched = self._client.poll(timeout)
        except OffsetOutOfRange as error:
            self._recover(error)
            return
        except SourceUnavailableError as error:
            self._unanswered(error)
            self._sleep(min(timeout, RETRY_SECONDS))
            return
        if fetched:
            self._patience.answered()
        for each in fetched:
            self._ready.extend(self._blocks(each))
        self._note_status()

    def _blocks(self, fetched: Fetched) -> list[Block]:
        """The messages of one partition as blocks of about the aimed size."""
        partition = self._partitions[fetched.partition]
        count = len(fetched.values)
        if partition.end is not None:
            count = int(np.searchsorted(fetched.offsets, partition.end))
        if count == 0:
            return []
        if fetched.offsets[-1] > MAX_OFFSET:
            raise SourceError(f"{partition.name}: offsets beyond {MAX_OFFSET} cannot be read")
        if fetched.timestamp > 0:
            self._last_event = fetched.timestamp / 1000
        values = without_tombstones(fetched.values)
        if self._fields:
            values = with_fields(values, self._client.details(fetched), self._fields, self.format)
        return [
            block_of_messages(partition.name, part, fetched.offsets[lo : lo + len(part)], partition.position)
            for lo, part in runs_of(values[:count], self._block_bytes)
        ]

    def _recover(self, error: OffsetOutOfRange) -> None:
        """The next offset is not held (any more): stop, or go on with what is left."""
        partition = self._partitions[error.partition]
        try:
            earliest = self._client.offsets([error.partition], EARLIEST)[error.partition]
            latest = self._client.offsets([error.partition], LATEST)[error.partition]
        except SourceUnavailableError as unavailable:
            self._unanswered(unavailable)
            return
        name = PartitionName(self._topic_name, error.partition, self._topic.topic_id)
        beginning = check_held(self.uri, name, partition.position, earliest, latest, self._chosen.skip_lost)
        partition.position = beginning.positions[error.partition]
        self._assign()
        self._take(beginning)

    def _look_now_and_then(self) -> None:
        """Every ``refresh`` seconds: does the broker answer, is the topic the same, has it grown?"""
        if self._clock() - self._looked < self._chosen.refresh:
            return
        try:
            topic = self._client.topic()
            if topic is None:
                gone = SourceError(f"{self.uri}: the topic {self._topic_name} has been deleted")
                if self._patience.exhausted:
                    raise gone
                self._patience.bear(gone)
            else:
                self._patience.answered()
                self._compare(topic)
        except SourceUnavailableError as error:
            self._unanswered(error)
        self._looked = self._clock()

    def _compare(self, topic: Topic) -> None:
        if topic.topic_id != self._topic.topic_id:
            before = self.positions()
            beginning = begin(self._client, self.uri, self._topic_name, topic, before, self._chosen)
            if not self._follow:
                raise LostDataError(
                    f"{self.uri}: the topic {self._topic_name} was made again while it was read"
                )
            self._topic = topic
            self._partitions.clear()
            self._start(beginning, bounded=False)
        elif self._follow and self._chosen.partitions is None and topic.partitions - self._partitions.keys():
            self._add(sorted(topic.partitions - self._partitions.keys()))

    def _add(self, numbers: list[int]) -> None:
        """Read new partitions from their first event on."""
        first = self._client.offsets(numbers, EARLIEST)
        for number in numbers:
            name = str(PartitionName(self._topic_name, number, self._topic.topic_id))
            position = position_of(first[number])
            self._partitions[number] = ReadPartition(name, position, position, None)
        self._assign()
        _log.warning("%s: new partitions are read as well: %s", self.uri, ", ".join(map(str, numbers)))

    def _unanswered(self, error: SourceError) -> None:
        """While reading, a bounded run gives up after a while, a following one never does."""
        if self._patience.exhausted and not self._follow:
            self._patience.give_up(error)
        self._patience.bear(error)

    def _send_commit(self, wait: bool) -> None:
        commit, self._commit = self._commit, None
        if commit:
            self._client.commit(commit, wait)

    def _note_status(self) -> None:
        self._status = {
            "client": self._client.name,
            "partitions": len(self._partitions),
            "lag": self._partitions.lag(self._client.end),
            "lost": self._lost,
        }
        if self._last_event is not None:
            self._status["last_event_age"] = round(max(0.0, self._wall() - self._last_event), 3)
