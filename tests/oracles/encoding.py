"""What each format means, in plain Python: one record to a row, or to a refusal.

Written from the documentation with the ``xxhash``, ``json`` and ``re`` modules, and slow.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from ftrl_engine.schema import LABEL_NAMES, Field, Schema

MAX_FEATURES = 1 << 16
MAX_DEPTH = 32
MAX_VALUE = 1e50

NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
DECIMAL = re.compile(rb"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE][+-]))([eE][+-]?\d+)?")
CSV_COLUMN = re.compile(rb'"((?:[^"]|"")*)"(?=,|\Z)|(?!")([^,]*)')
SPACE = rb"[\x01-\x20]"


class Refused(Exception):
    """The record is no row."""


@dataclass
class Row:
    """A row: (slot, value) in order, each slot once."""

    features: list[tuple[int, float]] = field(default_factory=list)
    label: float | None = None
    importance: float = 1.0


def digest(data: bytes, seed: int) -> int:
    """XXH64."""
    return xxhash.xxh64_intdigest(data, seed)


def salt(name: str) -> int:
    """The seed of a field's values."""
    return digest(name.encode(), 0)


def le8(number: int) -> bytes:
    """Eight little-endian bytes, two's complement."""
    return (number % 2**64).to_bytes(8, "little")


def number(text: bytes) -> float:
    """The finite number that is written there."""
    if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise Refused(f"no finite number: {text[:40]!r}")
    return float(text)


def log_bucket(x: float) -> int:
    """-2..2 for themselves, sign(x) floor(ln(|x|)^2) above, floor(2 log2 |x|) for other fractions."""
    size, sign = abs(x), x >= 0
    if size <= 2 and size == int(size):
        return int(size) if sign else -int(size) - 1_000_000
    if size > 2:
        bucket = 3 + math.floor(math.log(size) * math.log(size))
        return bucket if sign else -bucket - 1_000_000
    return -10 + math.floor(2 * math.log2(size)) - (0 if sign else 4096)


def kind_of(schema: Schema, name: str) -> str | Field:
    """label, weight or skip, or the field's description."""
    fields = {one.name: one for one in schema.fields}
    if name in fields:
        return fields[name]
    if name in schema.ignore or name == schema.timestamp:
        return "skip"
    if name == schema.weight:
        return "weight"
    if name == schema.label or (schema.label is None and name in LABEL_NAMES):
        return "label"
    crossed = any(name in cross for cross in schema.crosses)
    return Field(name) if schema.others == "auto" or crossed else "skip"


class Builder:
    """Collects the values of one record."""

    def __init__(self, schema: Schema, bits: int) -> None:
        self.schema = schema
        self.bits = bits
        self.row = Row()
        self.cells: list[tuple[str, int, float]] = []

    def add_token(self, name: str, token: bytes, value: float = 1.0) -> None:
        self.cells.append((name, digest(token, salt(name)), value))

    def add_number(self, name: str, x: float) -> None:
        kind = kind_of(self.schema, name)
        if not math.isfinite(x):
            raise Refused("not finite")
        if kind == "label":
            self.set_label(x)
        elif kind == "weight":
            self.set_importance(x)
        elif isinstance(kind, Field):
            self._add_feature(kind, x)

    def _add_feature(self, about: Field, x: float) -> None:
        transform = about.transform if about.kind == "number" else "log_bucket"
        seed, value = salt(about.name), 1.0
        if transform == "log_bucket":
            h = digest(le8(log_bucket(x)), seed)
        elif transform == "bins":
            h = digest(le8(sum(edge <= x for edge in about.edges)), seed)
        else:
            h = digest(le8(0), seed)
            value = math.copysign(math.log1p(abs(x)), x) if transform == "log1p" else x
        self.cells.append((about.name, h, value))

    def set_label(self, x: float) -> None:
        if self.row.label is not None:
            raise Refused("two labels")
        if self.schema.label_at_least is not None:
            x = float(x >= self.schema.label_at_least)
        if x not in (0.0, 1.0):
            raise Refused("label")
        self.row.label = x

    def set_importance(self, x: float) -> None:
        if not 0 <= x <= MAX_VALUE:
            raise Refused("importance")
        self.row.importance = x

    def add_text(self, name: str, text: bytes) -> None:
        kind = kind_of(self.schema, name)
        if text == b"" or kind == "skip":
            return
        truths = {b"true": 1.0, b"false": 0.0}
        if kind == "label" and text.lower() in truths and self.schema.label_at_least is None:
            self.set_label(truths[text.lower()])
        elif not isinstance(kind, Field) or kind.kind == "number":
            self.add_number(name, number(text))
        elif kind.kind == "tokens":
            for token in text.split(kind.separator.encode()):
                if token:
                    self.add_token(name, token)
        elif kind.kind == "auto" and DECIMAL.fullmatch(text):
            self.add_number(name, number(text))
        else:
            self.add_token(name, text)

    def finish(self, need_label: bool) -> Row:
        given = {owner for owner, _, _ in self.cells}
        for cross in self.schema.crosses:
            self._add_cross(cross)
        for about in self.schema.fields:
            if about.missing == "feature" and about.name not in given:
                self.cells.append((about.name, digest(b"", salt(about.name)), 1.0))
        if len(self.cells) > MAX_FEATURES:
            raise Refused("too many features")
        if need_label and self.row.label is None:
            raise Refused("no label")
        features: dict[int, float] = {}
        for _, h, value in self.cells:
            if value != 0.0:
                slot = h >> (64 - self.bits)
                features[slot] = features.get(slot, 0.0) + value
        if not all(abs(value) <= MAX_VALUE for value in features.values()):
            raise Refused("a value is too large")
        self.row.features = list(features.items())
        return self.row

    def _add_cross(self, cross: tuple[str, ...]) -> None:
        paths = [(salt("*".join(cross)), 1.0)]
        for name in cross:
            parts = [(h, value) for owner, h, value in self.cells if owner == name]
            if len(paths) * len(parts) > MAX_FEATURES:
                paths = paths[: MAX_FEATURES // len(parts) + 1]  # too many in any case, unless one is missing
            paths = [(digest(le8(h), seed), value * v) for seed, value in paths for h, v in parts]
        self.cells += [("", h, value) for h, value in paths]


def delimited(
    columns: Sequence[str], split: Callable[[bytes], list[bytes]]
) -> Callable[[Builder, bytes], None]:
    """A format of columns."""

    def read(builder: Builder, line: bytes) -> None:
        texts = split(line)
        if len(texts) != len(columns):
            raise Refused("columns")
        for name, text in zip(columns, texts, strict=True):
            builder.add_text(name, text)

    return read


def split_tsv(line: bytes) -> list[bytes]:
    """Tabs separate, nothing is quoted."""
    return line.split(b"\t")


def split_csv(line: bytes) -> list[bytes]:
    """RFC 4180, one line."""
    texts, at = [], 0
    while True:
        found = CSV_COLUMN.match(line, at)
        if found is None:
            raise Refused("quotes")
        quoted, plain = found.groups()
        texts.append(plain if quoted is None else quoted.replace(b'""', b'"'))
        at = found.end() + 1
        if at > len(line):
            return texts


def read_json(builder: Builder, line: bytes) -> None:
    """One object: numbers finite, text valid Unicode, the last of a repeated key counts."""

    def refuse(text: str) -> float:
        raise Refused(f"no number of JSON: {text}")

    def read_float(text: str) -> float:
        return float(text) if math.isfinite(float(text)) else refuse(text)

    try:
        event = json.loads(line.decode(), parse_float=read_float, parse_constant=refuse)
        json.dumps(event, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from error
    if not isinstance(event, dict):
        raise Refused("no object")
    for name, value in walk(builder.schema, event, "", 0):
        add_typed(builder, name, value)


def walk(schema: Schema, event: dict[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    """(field, value), nested objects with dots."""
    if depth > MAX_DEPTH:
        raise Refused("deep")
    for key, value in event.items():
        name = prefix + key
        explicit = name in schema.ignore or name == schema.timestamp
        if isinstance(value, dict):
            if not explicit:
                yield from walk(schema, value, name + ".", depth + 1)
        elif value is not None and kind_of(schema, name) != "skip":
            yield name, value


def token_text(value: Any) -> bytes:
    """A JSON scalar as a token."""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 2**53
        return (str(int(value)) if whole else repr(value)).encode()
    if isinstance(value, str | int):
        return str(value).encode()
    raise Refused("nested")


def add_typed(builder: Builder, name: str, value: Any) -> None:
    """A JSON value as a value of the field."""
    kind = kind_of(builder.schema, name)
    kind = kind.kind if isinstance(kind, Field) else kind
    if isinstance(value, list):
        for word in (token_text(one) for one in value if one is not None):
            if kind in ("label", "weight", "number"):
                raise Refused("a list is no number")
            if word:
                builder.add_token(name, word)
    elif isinstance(value, str):
        builder.add_text(name, value.encode())
    elif kind == "label" and isinstance(value, bool):
        builder.set_label(float(value))
    elif kind in ("label", "weight", "number") or (kind == "auto" and isinstance(value, float)):
        if isinstance(value, bool):
            raise Refused("a truth value is no number")
        builder.add_number(name, number(str(value).encode()))
    else:
        builder.add_token(name, token_text(value))


def signed_label(builder: Builder, text: bytes) -> None:
    """-1, 0 or 1."""
    x = number(text)
    builder.set_label(0.0 if x == -1 and builder.schema.label_at_least is None else x)


def read_libsvm(builder: Builder, line: bytes) -> None:
    """``label index:value ... # comment``."""
    words = [word for word in re.split(SPACE, line.split(b"#")[0]) if word]
    if words and b":" not in words[0]:
        signed_label(builder, words.pop(0))
    for word in words:
        if re.fullmatch(rb"qid:[^:]*", word):
            continue
        found = re.fullmatch(rb"([^:]+)(?::([^:]*))?", word, re.DOTALL)
        if found is None:
            raise Refused("pair")
        index, value = found.groups()
        x = 1.0 if value is None else number(value)
        if kind_of(builder.schema, "") != "skip":
            builder.add_token("", index, x)


def read_vw(builder: Builder, line: bytes) -> None:
    """``[label] [importance] ['tag]|namespace[:scale] feature[:value] ...``."""
    start, *namespaces = line.split(b"|")
    if not namespaces:
        raise Refused("no bar")
    words = [word for word in re.split(SPACE, start) if word]
    if words and (words[-1].startswith(b"'") or start.endswith(words[-1])):
        words.pop()
    if len(words) > 2 or any(word.startswith(b"'") for word in words):
        raise Refused("base or late tag")
    if words:
        signed_label(builder, words[0])
    if len(words) == 2:
        builder.set_importance(number(words[1]))
    for text in namespaces:
        head, *features = re.split(SPACE, text)
        found = re.fullmatch(rb"([^:]+)(?::([^:]*))?|", head, re.DOTALL)
        if found is None:
            raise Refused("namespace")
        name = (found[1] or b"").decode()
        scale = 1.0 if found[2] is None else number(found[2])
        for feature in filter(None, features):
            pair = re.fullmatch(rb"([^:]+)(?::([^:]*))?", feature, re.DOTALL)
            if pair is None:
                raise Refused("feature")
            value = 1.0 if pair[2] is None else number(pair[2])
            if name not in builder.schema.ignore and kind_of(builder.schema, name) != "skip":
                builder.add_token(name, pair[1], value * scale)


def reader(format_name: str, columns: Sequence[str] = ()) -> Callable[[Builder, bytes], None]:
    """The reader of a format."""
    return {
        "tsv": delimited(columns, split_tsv),
        "csv": delimited(columns, split_csv),
        "jsonl": read_json,
        "libsvm": read_libsvm,
        "vw": read_vw,
    }[format_name]


def encode(
    format_name: str,
    line: bytes,
    schema: Schema,
    bits: int,
    need_label: bool = True,
    columns: Sequence[str] = (),
) -> Row | None:
    """The row of one record; None where it is refused."""
    builder = Builder(schema, bits)
    try:
        if b"\0" in line:
            raise Refused("NUL")
        line.decode()
        reader(format_name, columns or schema.columns)(builder, line)
        return builder.finish(need_label)
    except (Refused, UnicodeDecodeError):
        return None
