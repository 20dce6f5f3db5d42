"""Every format against the slow encoder: whole events, edge cases, limits and parts."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine import FeatureHasher, Schema
from ftrl_engine.errors import ConfigError
from ftrl_engine.schema import Field
from ftrl_engine.sink import MAX_ROW_FEATURES
from streams.codecs import base
from streams.codecs.base import format_names, open_codec
from streams.codecs.jsonl import JsonlCodec
from tests.blocks import make_block
from tests.codec_lines import (
    BITS,
    COLUMNS,
    FORMATS,
    LINES,
    NUMBERS,
    OTHER_TEXTS,
    SCHEMA,
    check,
    rows_of,
)
from tests.oracles import encoding

# Text without what ends a record or is refused in any: line ends and NUL.
free_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n"), max_size=12)
numbers = (
    st.sampled_from(NUMBERS)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers().map(str)
)
texts = numbers | st.sampled_from(OTHER_TEXTS) | free_text
labels = st.sampled_from(["1", "0", "1.0", "0", "1", "", "-1", "2", "yes", "true", "False", "TRUE", "truE1"])
importances = st.sampled_from(["", "1", "0.5", "0", "1e3", "3", "-1", "nan"])
tag_lists = st.lists(texts, max_size=4).map(",".join)
columns_of_event = st.tuples(
    labels, importances, free_text, free_text, texts, texts, tag_lists, *[st.just("") | numbers] * 4, texts
)


@given(st.lists(columns_of_event, max_size=8))
def test_tsv(events: Sequence[tuple[str, ...]]) -> None:
    check("tsv", ["\t".join(text.replace("\t", " ") for text in event).encode() for event in events])


@given(st.lists(columns_of_event, max_size=8), st.booleans())
def test_csv(events: Sequence[tuple[str, ...]], quote_all: bool) -> None:
    lines = []
    for event in events:
        out = io.StringIO()
        texts_without_returns = [text.replace("\r", " ") for text in event]
        quoting: Literal[0, 1] = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
        csv.writer(out, quoting=quoting, lineterminator="").writerow(texts_without_returns)
        lines.append(out.getvalue().encode())
    check("csv", lines)


json_numbers = numbers.filter(lambda text: text[0] not in "+." and not text.endswith("."))
json_words = json_numbers | st.sampled_from(
    ["true", "false", "null", "-", "01", "1.", "nul", "NaN", "1e999", "1e99"]
)
json_scalars = json_words | texts.map(lambda text: json.dumps(text, ensure_ascii=False))
json_lists = st.lists(json_scalars, max_size=4).map(lambda words: f"[{', '.join(words)}]")
json_labels = labels.map(lambda text: json.dumps(text)) | st.sampled_from(
    ["1", "0", "true", "false", "1.0", "null"]
)
json_keys = st.sampled_from((*COLUMNS[1:], "x", "", "clicks", "ключ")).map(
    lambda text: json.dumps(text, ensure_ascii=False)
)
json_pairs = st.lists(st.tuples(json_keys, json_scalars | json_lists), max_size=8)


def json_object(label: str, pairs: Sequence[tuple[str, str]], colon: str, comma: str) -> bytes:
    """An object as text, its keys as they come."""
    return (
        "{" + comma.join(f"{key}{colon}{value}" for key, value in [('"click"', label), *pairs]) + "}"
    ).encode()


@given(st.lists(st.tuples(json_labels, json_pairs), max_size=8), st.sampled_from([":", ": ", " :\t "]))
def test_json(events: Sequence[tuple[str, Any]], colon: str) -> None:
    check("jsonl", [json_object(label, pairs, colon, ",") for label, pairs in events])


def slowly(records: Sequence[bytes], schema: Schema = SCHEMA) -> list[Any]:
    """The rows that the careful path makes: a carriage return is white space only it knows."""
    return rows_of(open_codec("jsonl", schema, BITS), [b"\r" + record for record in records])


@given(
    st.lists(st.tuples(json_labels, json_pairs), min_size=1, max_size=8), st.sampled_from(["auto", "ignore"])
)
def test_json_fast_path_equals_the_careful_path(events: Sequence[tuple[str, Any]], others: str) -> None:
    records = [json_object(label, pairs, ": ", " , ") for label, pairs in events]
    schema = replace(SCHEMA, others=others)
    assert rows_of(open_codec("jsonl", schema, BITS), records) == slowly(records, schema)


def test_json_fast_path_takes_plain_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, text of any script, lists, truth values and null need no Python."""
    monkeypatch.delattr(JsonlCodec, "_add_slowly")
    check(
        "jsonl",
        [
            '{"click":1,"user":"日本","price":2.5,"raw":-1e-5,"tags":["a",7,true,null],"other":false}'.encode(),
            b'{"click": 0, "x": 12345, "y": 0.5, "w": 2.0, "item": null, "tags": [ ]}',
            b'{"click":1,' + b",".join(b'"k%d":%d' % (i, i) for i in range(1000)) + b"}",
        ],
    )


def test_json_keys_may_repeat_and_be_many() -> None:
    """4096 keys fill every cell of the table of known keys, the last one too."""
    many = b",".join(b'"k%d":1' % i for i in range(5000))
    check("jsonl", [b'{"click":1,' + many + b"}", b'{"user":"a","click":0,"user":"b"}'])
    few = [b'{"click":1,"k%d":1,"k%d":2}' % (i, i + (i % 3)) for i in range(6000)]
    check("jsonl", few)


pairs_of_line = st.lists(st.tuples(texts | numbers, st.none() | texts | numbers), max_size=6)
fillers = st.sampled_from([" ", "  ", "\t"])


def test_json_keys_are_remembered_and_forgotten() -> None:
    names = [f"key_{number}" * (1 + number % 9) for number in range(3000)]
    spans = [(0, 900), (300, 3), (302, 1), (299, 4), (850, 600), (1500, 1500), (0, 40), (20, 3)]
    records = [
        json.dumps({"click": 1, **dict.fromkeys(names[first : first + width], "x")}).encode()
        for first, width in spans
    ]
    twice = [b'{"click":1,"%s":2,"%s":3}' % (key, key) for key in (b"", b"key_0", b"new")]
    records = [*records, *twice, *reversed(records), *twice]
    assert rows_of(open_codec("jsonl", SCHEMA, BITS), records) == slowly(records)


@pytest.mark.parametrize("name", ["tsv", "csv"])
@pytest.mark.parametrize("columns", [2, 63, 64, 65, 200])
def test_columns_are_found_wherever_they_stand(name: str, columns: int) -> None:
    separator = {"tsv": "\t", "csv": ","}[name]
    names = ["click", *(f"c{number}" for number in range(1, columns))]
    schema = Schema(columns=tuple(names))
    codec, hasher = open_codec(name, schema, BITS), FeatureHasher(schema, BITS)
    for width in (0, 1, 7, 30, 100):
        texts = ["1", *(str(number)[:1] * ((number * width) % 101) for number in range(1, columns))]
        line = separator.join(texts).encode()
        # The record beside it begins with a separator.
        (part,) = codec.encode(make_block([line], after=separator.encode()))
        expected = hasher.transform([dict(zip(names, texts, strict=True))])
        assert part.batch.slots.tolist() == expected.slots.tolist()
        for wrong in (line + separator.encode(), separator.join(texts[1:]).encode()):
            (part,) = codec.encode(make_block([wrong], after=separator.encode()))
            assert ["columns" in refusal.reason for refusal in part.refused] == [True]


@given(st.lists(st.tuples(labels, pairs_of_line, fillers, st.sampled_from(["", "#", " # 9:1"])), max_size=8))
def test_libsvm(events: Sequence[tuple[str, Any, str, str]]) -> None:
    lines = []
    for label, pairs, space, comment in events:
        words = [name if value is None else f"{name}:{value}" for name, value in pairs]
        lines.append((space.join([label, *words]) + comment).encode())
    check("libsvm", lines)


namespaces = st.tuples(
    st.sampled_from(["", "user", "item", "tags", "id", "click", "ns", "when"]),
    st.none() | numbers,
    pairs_of_line,
)
starts = st.sampled_from(
    ["1 ", "-1 ", "0 0.5 ", "1 2 'tag", "1 tag", "1", "", "1 1 0.5 ", "'t", "x ", "1 -1 ", "1 ' 2 "]
)


@given(st.lists(st.tuples(starts, st.lists(namespaces, max_size=4), fillers), max_size=8))
def test_vw(events: Sequence[tuple[str, Any, str]]) -> None:
    lines = []
    for start, groups, space in events:
        line = start
        for name, scale, pairs in groups:
            words = [word if value is None else f"{word}:{value}" for word, value in pairs]
            line += "|" + space.join([name if scale is None else f"{name}:{scale}", *words])
        lines.append(line.encode())
    check("vw", lines)


def test_vw_lines_mean_what_vowpal_wabbit_reads() -> None:
    """Label, importance and values, among them the word that touches the bar."""
    package = pytest.importorskip("vowpalwabbit", reason="Vowpal Wabbit is not installed")
    workspace = package.Workspace("--quiet --noconstant -b 20")
    lines = [
        "1 |a x", "1|a x", "1 tag|a x", "1 2 'tag |a x:2 y|b:0.5 z:3", "-1 0.5 'tag|a x", "|a x", "'t |a x",
        "1 | 3:1 7:.5", "1 |a:2 x:3|a:.5 y", "1  |a  x:1e-3 y:.5   z:5.", "+1 |a x |", "1 't|a", " 1 | x",
    ]  # fmt: skip
    encoded = [line.encode() for line in lines]
    rows = rows_of(open_codec("vw", Schema(), 31, need_label=False), encoded)
    labelled = rows_of(open_codec("vw", Schema(), 31), encoded)
    for line, row, with_label in zip(lines, rows, labelled, strict=True):
        parsed = workspace.parse(line)
        label = parsed.get_simplelabel_label()
        assert row is not None
        assert (with_label and with_label.label) == (None if abs(label) > 1 else max(label, 0.0)), line
        assert row.importance == parsed.get_simplelabel_weight(), line
        values = [pytest.approx(value) for _, value in parsed.iter_features()]
        assert sorted(value for _, value in row.features) == sorted(
            values, key=lambda value: value.expected
        ), line
        workspace.finish_example(parsed)


@pytest.mark.parametrize("name", FORMATS)
def test_lines_by_hand(name: str) -> None:
    rows = check(name, [line.encode() for line in LINES[name]])
    assert sum(row is not None for row in rows) >= len(rows) - 1


def test_libsvm_and_vw_agree() -> None:
    svm = check("libsvm", [b"-1 3:1 7:0.25 x"])
    assert svm[0] is not None
    assert svm == check("vw", [b"-1 | 3:1 7:0.25 x"])


LONG_NUMBER = "0.12345678901234567"
ENDS_WITH_A_NUMBER = {
    "tsv": f"1\t{LONG_NUMBER}",
    "csv": f"1,{LONG_NUMBER}",
    "libsvm": f"1 n:{LONG_NUMBER}",
    "vw": f"1 | n:{LONG_NUMBER}",
}


@pytest.mark.parametrize("name", ENDS_WITH_A_NUMBER)
def test_a_number_ends_where_its_record_ends(name: str) -> None:
    """In a broker's batch the next record follows at once, and the padding may hold anything."""
    schema = Schema(columns=("click", "n"), fields=(Field("n", "number"),))
    block = make_block([ENDS_WITH_A_NUMBER[name].encode()] * 3, between=b"", after=b"7")
    (part,) = open_codec(name, schema, BITS).encode(block)
    assert part.batch.values.tolist() == [float(LONG_NUMBER)] * 3


@pytest.mark.parametrize("name", FORMATS)
def test_parts_and_splits_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.encode() for line in LINES[name]] * 6 + [b"broken"]
    codec = open_codec(name, SCHEMA, BITS)
    whole = rows_of(codec, lines)
    for cut in (1, 5, len(lines) - 1):
        assert rows_of(codec, lines[:cut]) + rows_of(codec, lines[cut:]) == whole
    for rows in (1, 3, 7):
        monkeypatch.setattr(base, "MAX_BATCH_ROWS", rows)
        assert rows_of(codec, lines) == whole


def test_a_full_sink_ends_a_part_early() -> None:
    """Crosses make far more features than the text's length tells."""
    schema = Schema(crosses=(("a", "b"),), fields=(Field("a", "tokens"), Field("b", "tokens")))
    words = [",".join(f"{letter}{i}" for i in range(200)) for letter in "ab"]
    records = [json.dumps({"click": i % 2, "a": words[0], "b": words[1], "i": i}).encode() for i in range(7)]
    parts = list(open_codec("jsonl", schema, BITS).encode(make_block(records)))
    assert len(parts) > 1
    assert parts[-1].stop == sum(len(part.batch) for part in parts) == 7
    assert check("jsonl", records[:2], schema)[0] is not None


def token_line(name: str, count: int) -> bytes:
    """A record with ``count`` features."""
    words = [f"t{i}" for i in range(count)]
    return {
        "tsv": "1\t" + ",".join(words),
        "csv": '1,"' + ",".join(words) + '"',
        "jsonl": json.dumps({"click": 1, "tags": words}),
        "libsvm": "1 " + " ".join(words),
        "vw": "1 |tags " + " ".join(words),
    }[name].encode()


@pytest.mark.parametrize("name", FORMATS)
def test_the_longest_row(name: str) -> None:
    schema = Schema(columns=("click", "tags"), fields=(Field("tags", "tokens"),))
    lines = [token_line(name, MAX_ROW_FEATURES), token_line(name, MAX_ROW_FEATURES + 1), token_line(name, 3)]
    rows = check(name, lines, schema, bits=31)
    assert [row and len(row.features) > 65_500 for row in rows] == [True, None, False]
    (part,) = open_codec(name, schema, 31).encode(make_block(lines))
    assert [refusal.reason for refusal in part.refused] == ["more than 65536 features"]


def test_repeats_in_the_longest_row_cost_no_more_than_others() -> None:
    """A repeat is found at once: a search through the row would take a hundred times as long."""
    half = MAX_ROW_FEATURES // 2
    alone, repeated = (
        make_block([("1 " + " ".join(f"{i % different}:0.5" for i in range(MAX_ROW_FEATURES))).encode()] * 4)
        for different in (MAX_ROW_FEATURES, half)
    )
    codec = open_codec("libsvm", Schema(), 31)
    seconds = []
    for block in (alone, repeated):
        times = []
        for _ in range(3):
            started = time.thread_time()
            (part,) = codec.encode(block)
            times.append(time.thread_time() - started)
        seconds.append(min(times))
    assert set(part.batch.values.tolist()) == {1.0}
    assert seconds[1] < 10 * seconds[0]


def test_a_cross_without_all_its_fields_is_nothing() -> None:
    """Even where the fields that are there have more combinations than anyone could count."""
    parts = tuple("abcdefgh")
    schema = Schema(crosses=(parts,), fields=tuple(Field(name, "tokens") for name in parts))
    event: dict[str, Any] = {"click": 1} | {name: [f"{name}{i}" for i in range(100)] for name in parts[:-1]}
    missing, given = json.dumps(event).encode(), json.dumps(event | {"h": "x"}).encode()
    rows = rows_of(open_codec("jsonl", schema, BITS), [missing, given])
    assert rows[0] is not None
    assert len(rows[0].features) == 700
    assert rows[1] is None


@pytest.mark.parametrize(
    ("value", "fits"), [("1e50", True), ("-1e50", True), ("2e50", False), ("-1e308", False)]
)
def test_values_have_a_limit(value: str, fits: bool) -> None:
    """A sum or a product may break it too, and the row after it starts afresh."""
    twice, once = f"1 a:{value} a:{value}".encode(), f"1 a:{value}".encode()
    rows = check("libsvm", [twice, b"1 a:1 b:2", once, twice])
    assert [row is not None for row in rows] == [False, True, fits, False]
    check("vw", [f"1 |n:{value} a:1".encode(), f"1 |n:{value} a:2".encode(), f"1 {value} |a x".encode()])
    crossed = replace(SCHEMA, crosses=(("raw", "more"),), fields=(*SCHEMA.fields, Field("more", "number")))
    check("jsonl", [f'{{"click":1,"raw":{value},"more":{more}}}'.encode() for more in (1, 2, value)], crossed)


@pytest.mark.parametrize("name", FORMATS)
def test_labels_may_be_missing_where_they_are_not_needed(name: str) -> None:
    schema = Schema(columns=("a", "b", "click"))
    lines = {
        "tsv": [b"x\ty"], "csv": [b'"x,1",y', b"1,2"], "jsonl": [b'{"a":1}'],
        "libsvm": [b"3:1 4:2", b"qid:1 3:1", b""], "vw": [b"|a x", b"'tag |a x y", b" | 3"],
    }[name]  # fmt: skip
    rows = rows_of(open_codec(name, schema, BITS, need_label=False), lines)
    columns = ("a", "b") if name in ("tsv", "csv") else ()
    assert rows == [
        encoding.encode(name, line, schema, BITS, need_label=False, columns=columns) for line in lines
    ]
    assert None not in rows
    assert rows_of(open_codec(name, schema, BITS), lines) == [None] * len(lines)


def reasons(name: str, *records: bytes, schema: Schema = SCHEMA) -> list[str]:
    """Why each record is refused."""
    parts = open_codec(name, schema, BITS).encode(make_block(records))
    return [refusal.reason for part in parts for refusal in part.refused]


def test_reasons_say_what_is_wrong() -> None:
    assert reasons("tsv", b"1\ta") == ["wrong number of columns: expected 12, found 2"]
    assert reasons("csv", b'1,"a,b",c') == ["wrong number of columns: expected 12, found 3"]
    assert reasons("csv", b'1,"a') == [
        "a quote is not closed or not followed by a separator (a record is one line)"
    ]
    assert reasons("tsv", b"1\0", b"\xff") == ["holds a NUL byte", "not valid UTF-8"]
    (json_reason,) = reasons("jsonl", b'{"click":1,}')
    assert json_reason.startswith("not a JSON event: JSON is malformed")
    assert reasons("jsonl", b'{"user":"a"}', b'{"click":3}') == [
        "no label: the event has no field 'click'; it has user",
        "label 'click' must be 0 or 1, got '3'; write 0 and 1, "
        'or label = { field = "click", at_least = ... } in a schema',
    ]
    assert reasons("libsvm", b"2 3:1", b"1 3:x", b"1 :1", b"1 1:2:3") == [
        "the label must be -1, 0 or 1, got '2'",
        "a value is not a finite number, got '3:x'",
        "a feature must be index:value with one colon and an index before it, got ':1'",
        "a feature must be index:value with one colon and an index before it, got '1:2:3'",
    ]
    assert reasons(
        "vw", b"1 1 0.5 |a x", b"1|a x", b"1 a x", b"1 't 2 |a", b"1 -1 |a", b"1 | :1", b"1 |a:x"
    ) == [
        "a base (initial prediction) is not supported; leave out the third word before the |",
        "no label (a word that touches the first | is a tag)",
        "no | before the features",
        "a 'tag must be the last word before the |",
        "the importance must be a number from 0 to 1e+50, got '-1'",
        "a feature must be name or name:value with one colon and a name before it, got ':1'",
        "a value or scale is not a finite number, got 'a:x'",
    ]
    two = json.dumps({"click": 1, "y": 0}).encode()
    assert reasons("jsonl", two, schema=Schema()) == [
        "more than one label ('click', 'y'); name the label's field in a schema"
    ]


def test_reasons_name_the_field_and_the_value() -> None:
    number = "a number must be finite and at most 1e+50 in size"
    schema = Schema(
        columns=("clicked", "price", "size", "note"), label="clicked", weight="size",
        fields=(Field("price", "number"),),
    )  # fmt: skip
    cases = [
        (b"1,cheap,1,x", f"field 'price': {number}, got 'cheap'"),
        (b'1,"1,5",1,x', f"field 'price': {number}, got '1,5'"),
        (b"1,-1e51,1,x", f"field 'price': {number}, got '-1e51'"),
        (b"1,1,1,1.5e999", f"field 'note': {number}, got '1.5e999'"),
        (b"1,%s,1,x" % (b"y" * 41), f"field 'price': {number}, got '{'y' * 40}'..."),
        (b"yes,1,1,x", "label 'clicked' must be 0 or 1, got 'yes'; write 0 and 1"),
        (b",1,1,x", "no label: field 'clicked' has no value"),
        (b"1,1,-2,x", "importance 'size' must be a number from 0 to 1e+50, got '-2'"),
    ]
    for line, reason in cases:
        assert reasons("csv", line, schema=schema) == [reason]
    events = [
        (b'{"clicked":1,"price":true}', f"field 'price': {number}, got 'true'"),
        (b'{"clicked":1,"price":["1"]}', f"field 'price': {number}, got '1'"),
        (b'{"clicked":1,"note":1e60,"price":1e60}', f"field 'price': {number}, got '1e+60'"),
        (b'{"clicked":1,"size":"much"}', "importance 'size' must be a number from 0 to 1e+50, got 'much'"),
    ]
    for line, reason in events:
        assert reasons("jsonl", line, schema=schema) == [reason]
    rated = replace(schema, label_at_least=4.0)
    assert reasons("csv", b"true,1,1,x", schema=rated) == ["label 'clicked' must be a number, got 'true'"]
    (unnamed,) = reasons("jsonl", b'{"a":1,"b":null}', schema=Schema())
    assert unnamed.startswith("no label: the event has none of the fields label, click, ")
    assert unnamed.endswith('; it has a, b; name its field in a schema: label = "..."')


def test_header_names_the_columns() -> None:
    schema = Schema()
    header = '\ufeffuser,click,"a,b"'.encode()
    (row,) = rows_of(open_codec("csv", schema, BITS), [b"u1,1,7"], header=header)
    assert row == encoding.encode("csv", b"u1,1,7", schema, BITS, columns=("user", "click", "a,b"))
    for bad, what in [(None, "no names"), (b"a,b", "no label column"), (b"click,a,a", "stands twice")]:
        codec = open_codec("csv", schema, BITS)
        for _ in range(2):  # it is refused for every block of the file
            with pytest.raises(ConfigError, match=what):
                rows_of(codec, [b"u1,1,7"], header=bad)


def test_unknown_formats_are_refused() -> None:
    assert format_names() == sorted(FORMATS)
    with pytest.raises(ConfigError, match="csv, jsonl, libsvm, tsv, vw, got 'xml'"):
        open_codec("xml", SCHEMA, BITS)


@pytest.mark.parametrize("at_least", [None, 4.0])
def test_ratings_become_labels(at_least: float | None) -> None:
    schema = replace(SCHEMA, label_at_least=at_least)
    for name, line in [("libsvm", b"%s 3:1"), ("vw", b"%s | x"), ("jsonl", b'{"click":%s}')]:
        rows = check(name, [line % text for text in (b"5", b"4", b"3.5", b"-1", b"0", b"1")], schema)
        assert [row and row.label for row in rows[:3]] == (
            [None] * 3 if at_least is None else [1.0, 1.0, 0.0]
        )


def test_ignored_fields_may_hold_anything() -> None:
    event = b'{"click":1,"id":{"a":[[{}]]},"when":[[1]],"user":"u"}'
    assert check("jsonl", [event])[0] == check("jsonl", [b'{"click":1,"user":"u"}'])[0]
    only = replace(SCHEMA, others="ignore")
    lines = [b'{"click":1,"new":[[1]],"user":"u","item":"i"}', b'{"click":1,"new":{"user":[[1]]}}']
    assert None not in check("jsonl", lines, only)


def test_nesting_has_a_limit() -> None:
    for depth, fits in [(32, True), (33, False), (100_000, False)]:
        text = b'{"click":1,"a":' + b'{"a":' * (depth - 1) + b'{"x":1}' + b"}" * depth
        assert (check("jsonl", [text])[0] is not None) == fits
