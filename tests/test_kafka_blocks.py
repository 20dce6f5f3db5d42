"""Messages to blocks, positions, addresses and properties: all that needs no broker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.errors import ConfigError
from ftrl_engine.schema import Schema
from streams.kafka_address import parse_address
from streams.kafka_blocks import block_of_messages
from streams.kafka_client import EARLIEST, LATEST, Details
from streams.kafka_fields import message_fields, with_fields
from streams.kafka_options import read_options
from streams.kafka_positions import RECORDS, PartitionName, offset_of, position_of
from streams.kafka_properties import KafkaProperties, environment_properties, read_properties
from streams.source import Block

NONE = KafkaProperties({})

messages = st.lists(
    st.lists(st.sampled_from([b"", b"a", b"bb", b"c\r", b"\r", b"dddd"]), max_size=4).map(b"\n".join),
    min_size=1,
    max_size=6,
)


def records(block: Block) -> list[bytes]:
    return [block.record(row) for row in range(len(block))]


def plain_records(value: bytes) -> list[bytes]:
    """The records of a message by the rule in words: lines without their end, blank ones left out."""
    lines = [line.removesuffix(b"\r") for line in value.split(b"\n")]
    return [line for line in lines if line]


@given(messages, st.lists(st.integers(1, 3), min_size=6, max_size=6), st.integers(0, 1 << 40))
def test_every_record_once_at_its_own_position(values: list[bytes], steps: list[int], base: int) -> None:
    offsets = base + np.cumsum(steps[: len(values)])
    block = block_of_messages("p", values, offsets, position_of(int(offsets[0])))
    expected = [
        (record, position_of(int(offset), number))
        for value, offset in zip(values, offsets, strict=True)
        for number, record in enumerate(plain_records(value))
    ]
    assert records(block) == [record for record, _ in expected]
    assert block.next == position_of(int(offsets[-1]) + 1)
    assert block.positions.tolist() == [at for _, at in expected[1:]] + [block.next] * bool(expected)
    if expected:
        assert block.first == expected[0][1]


@given(messages, st.data())
def test_reading_again_from_any_cut_gives_exactly_the_rest(values: list[bytes], data: st.DataObject) -> None:
    offsets = np.arange(7, 7 + len(values))
    whole = block_of_messages("p", values, offsets, position_of(7))
    if not len(whole):
        return
    row = data.draw(st.integers(0, len(whole) - 1))
    position = int(whole.positions[row])
    again = [(v, o) for v, o in zip(values, offsets, strict=True) if o >= offset_of(position)]
    rest = records(whole)[row + 1 :]
    if not again:
        assert rest == []
        return
    block = block_of_messages("p", [v for v, _ in again], np.array([o for _, o in again]), position)
    assert records(block) == rest
    assert block.next == whole.next


def test_a_record_over_the_limit_is_refused_at_its_position() -> None:
    block = block_of_messages(
        "p", [b"aa\nbbbbbb\ncc", b"dddddddd"], np.array([3, 4]), position_of(3), limit=4
    )
    assert records(block) == [b"aa", b"cc"]
    assert [refusal.position for refusal in block.refused] == [position_of(3, 1), position_of(4)]
    assert block.positions.tolist() == [position_of(3, 1), position_of(4)]
    assert block.next == position_of(5)


def test_what_follows_the_millionth_record_of_a_message_is_refused_and_counted() -> None:
    block = block_of_messages("p", [b"a\n" * (RECORDS + 5), b"b"], np.array([3, 4]), position_of(3))
    assert len(block) == RECORDS + 1
    (refusal,) = block.refused
    assert "the last 5 are refused" in refusal.reason
    assert (np.diff(block.positions) > 0).all()
    assert block.positions[-2] == position_of(4)


def test_names_of_partitions_come_back() -> None:
    for name in (PartitionName("a.b-c_d", 12, "4L6g3nShT-eMCtK--X86sw"), PartitionName("t", 0, "")):
        assert PartitionName.parse(str(name)) == name
    assert PartitionName.parse("log:/events") is None


def test_addresses() -> None:
    address = parse_address("kafka://one,two:99,[::1]:5/clicks?start=latest")
    assert address.servers == ("one:9092", "two:99", "[::1]:5")
    assert (address.topic, address.options) == ("clicks", {"start": "latest"})
    assert parse_address("kafka:///clicks").servers == ()


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("kafka://h:1/", "not the name of a topic"),
        ("kafka://h:1/a/b", "not the name of a topic"),
        ("kafka://h:0/t", "not HOST:PORT"),
        ("kafka://h:1/t#x", "nothing may follow"),
        ("kafka://u:hunter2@h:1/t", "holds no user name"),
        ("kafka://h:1/t?sasl.password=hunter2", "does not belong"),
    ],
)
def test_bad_addresses_are_refused_without_their_secret(uri: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        parse_address(uri)
    assert "hunter2" not in str(caught.value)


def test_options_of_the_address_and_flags_over_them() -> None:
    options = read_options({"start": "latest", "partitions": "0,2,5-7", "client": "kafka-python"}, {}, NONE)
    assert (options.start, options.partitions) == (LATEST, frozenset((0, 2, 5, 6, 7)))
    assert read_options({"start": "latest"}, {"start": "earliest"}, NONE).start == EARLIEST
    assert read_options({"start": "1970-01-01T00:00:02"}, {}, NONE).start == 2000
    assert read_options({"start": "1970-01-01T01:00:02+01:00"}, {}, NONE).start == 2000
    assert read_options({}, {"default_group": "ftrl-m"}, NONE).group == "ftrl-m"
    assert read_options({"group": ""}, {"default_group": "ftrl-m"}, NONE).group is None


@pytest.mark.parametrize(
    "query",
    [
        {"start": "yesterday"},
        {"partitions": "1-"},
        {"partitions": "3-1"},
        {"client": "java"},
        {"on_lost_data": "ignore"},
        {"give_up_after": "soon"},
        {"offset": "3"},
    ],
)
def test_bad_options_name_themselves(query: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_options(query, {}, NONE)
    (name,) = query
    assert name in str(caught.value)


def test_properties_of_the_java_tools_and_of_librdkafka_mean_the_same(tmp_path: Path) -> None:
    java = tmp_path / "java.properties"
    java.write_text(
        "# comment\nsecurity.protocol=SASL_SSL\nsasl.mechanism = SCRAM-SHA-256\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n"
        '    username="u" password="p\\"w";\nssl.truststore.location=/ca.pem\nssl.truststore.type=PEM\n'
    )
    ours = KafkaProperties(read_properties(java))
    other = KafkaProperties(
        {
            "security.protocol": "sasl_ssl",
            "sasl.mechanisms": "SCRAM-SHA-256",
            "sasl.username": "u",
            "sasl.password": 'p"w',
            "ssl.ca.location": "/ca.pem",
        }
    )
    assert ours.for_kafka_python() == other.for_kafka_python()
    assert ours.for_librdkafka() == other.for_librdkafka()
    assert 'p"w' not in repr(ours)
    assert ours.hide('login failed: p"w') == "login failed: ********"


def test_the_environment_gives_properties() -> None:
    found = environment_properties({"FTRL_KAFKA_SASL_PASSWORD": "x", "HOME": "/"})
    assert found == {"sasl.password": "x"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"sasl.passwort": "hunter2"}, "not known"),
        ({"security.protocol": "TLS"}, "must be one of"),
        ({"sasl.username": "u", "sasl.password": "hunter2"}, "need security.protocol"),
        ({"security.protocol": "SASL_SSL", "sasl.password": "hunter2"}, "needs sasl.username"),
        ({"sasl.jaas.config": 'X required password="hunter2";'}, "names no username"),
        ({"fetch.max.bytes": "many"}, "must be a number"),
    ],
)
def test_bad_properties_are_refused_without_their_secret(given: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        KafkaProperties(given)
    assert "hunter2" not in str(caught.value)


DETAILS = Details(b"u7", 1234, [("app", b"old"), ("app", b"web")])


@pytest.mark.parametrize(
    ("format", "line", "expected"),
    [
        ("jsonl", b'{"a":1}', b'{"_key": "u7", "_timestamp": 1234, "_header.app": "web","a":1}'),
        ("jsonl", b" {} ", b'{"_key": "u7", "_timestamp": 1234, "_header.app": "web"} '),
        ("jsonl", b"[1]", b"[1]"),
        ("tsv", b"1\tx\r", b"1\tx\tu7\t1234\tweb"),
        ("csv", b"1,x", b"1,x,u7,1234,web"),
        ("vw", b"1 |a b", b"1 |a b |_key u7 |_timestamp 1234 |_header.app web"),
    ],
)
def test_what_a_message_carries_becomes_fields_of_each_event(
    format: str, line: bytes, expected: bytes
) -> None:
    fields = ("_key", "_timestamp", "_header.app")
    assert with_fields([line], [DETAILS], fields, format) == [expected]
    both = with_fields([line.rstrip(b"\r") + b"\n\n" + line], [DETAILS], fields, format)
    assert both == [expected + b"\n\n" + expected]


def test_missing_and_awkward_details() -> None:
    nothing = Details(None, -1, [])
    assert with_fields([b'{"a":1}'], [nothing], ("_key", "_timestamp"), "jsonl") == [b'{"a":1}']
    assert with_fields([b"1"], [nothing], ("_key",), "tsv") == [b"1\t"]
    odd = Details(b'a,"b"\tc|:d\xff', 0, [])
    assert with_fields([b"1"], [odd], ("_key",), "csv") == [b'1,"a,""b""\tc|:d\\xff"']
    assert with_fields([b"1"], [odd], ("_key",), "tsv") == [b'1\ta,"b" c|:d\\xff']
    assert with_fields([b"1 |a b"], [odd], ("_key",), "vw") == [b'1 |a b |_key a,"b"_c__d\\xff']
    with pytest.raises(ConfigError, match="libsvm"):
        with_fields([b"1"], [odd], ("_key",), "libsvm")


def test_the_schema_says_which_fields_are_wanted() -> None:
    schema = Schema.from_dict(
        {
            "timestamp": "_timestamp",
            "crosses": [["_key", "site"]],
            "fields": {"_header.app": {"kind": "token"}},
        }
    )
    assert set(message_fields(schema)) == {"_timestamp", "_key", "_header.app"}
    assert message_fields(Schema()) == ()
