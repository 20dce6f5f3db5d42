"""A schema as flat arrays that kernels read.

The plan lists every field the schema names (label, importance and crossed fields
included) with its salt, kind and options, and a hash table from field name to number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError
from ftrl_engine.hashing import as_buffer, check_bits, hash_bytes, salt
from ftrl_engine.intrinsics import at
from ftrl_engine.jit import inlined
from ftrl_engine.schema import LABEL_NAMES, MAX_FIELDS, Field, Schema

# Kinds as the kernels see them.
SKIP, TOKEN, TOKENS, NUMBER, AUTO, LABEL, WEIGHT = range(7)
# Transforms as the kernels see them.
NONE, LOG1P, LOG_BUCKET, BINS = range(4)
_KINDS = {"token": TOKEN, "tokens": TOKENS, "number": NUMBER, "auto": AUTO}
_TRANSFORMS = {"none": NONE, "log1p": LOG1P, "log_bucket": LOG_BUCKET, "bins": BINS}

UNKNOWN = -1
# Fields a schema may name in all: its own, its columns and what its crosses bring in.
MAX_PLANNED_FIELDS = 4 * MAX_FIELDS


# So many fields fit the bits of a word, with one to spare for features of fields without a number.
BIT_FIELDS = 63

# Columns of Plan.fields.
KIND, TRANSFORM, SEPARATOR, EDGE_LO, EDGE_HI, CROSSED, NAME_LO, NAME_HI = range(8)


class Plan(NamedTuple):
    """The arrays of one schema at one number of bits (F fields, C crosses, T = 2**k table cells).

    shift           64 - bits; a slot is hash >> shift
    others          kind of a field the schema does not name: AUTO or SKIP
    label_at_least  NaN where the label must be 0 or 1
    salts           uint64[F]
    fields          int64[F, 8]: kind, transform, separator, where its edges and its name stand,
                    and whether a cross needs the field's features
    edges, names    the bins and the names of all fields, one after the other
    table           int32[T]: field numbers in an open-addressing hash table by salt, else UNKNOWN
    missing_fields, missing_hashes  the fields whose absence is a feature, rising, and its hash
    missing_bits    where there are at most BIT_FIELDS fields, bit f tells that field f is one of them,
    missing_by_field  and uint64[>= F, >= 64] has its hash
    cross_salts     uint64[C]; cross_ptr int64[C+1] into cross_fields, the parts of each cross
    """

    shift: np.uint64
    others: int
    label_at_least: float
    salts: NDArray[np.uint64]
    fields: NDArray[np.int64]
    edges: NDArray[np.float64]
    names: NDArray[np.uint8]
    table: NDArray[np.int32]
    cross_salts: NDArray[np.uint64]
    cross_ptr: NDArray[np.int64]
    cross_fields: NDArray[np.int64]
    missing_fields: NDArray[np.int64]
    missing_hashes: NDArray[np.uint64]
    missing_bits: np.uint64
    missing_by_field: NDArray[np.uint64]


def planned_fields(schema: Schema) -> list[tuple[Field, int]]:
    """Every field the schema names, with its kernel kind; the order is the field number."""
    fields: dict[str, tuple[Field, int]] = {}
    for name in (schema.label,) if schema.label is not None else LABEL_NAMES:
        fields[name] = (Field(name), LABEL)
    if schema.weight is not None:
        fields[schema.weight] = (Field(schema.weight), WEIGHT)
    times = () if schema.timestamp is None else (schema.timestamp,)
    for name in (*times, *schema.ignore):
        fields[name] = (Field(name), SKIP)
    for field in schema.fields:
        fields[field.name] = (field, _KINDS[field.kind])
    others = AUTO if schema.others == "auto" else SKIP
    for cross in schema.crosses:
        for name in cross:
            # A crossed field is read even where others are ignored.
            fields.setdefault(name, (Field(name), AUTO))
    for name in schema.columns:
        fields.setdefault(name, (Field(name), others))
    return list(fields.values())


def missing_hash(name: str) -> int:
    """The hash of the feature that says a field has no value: that of an empty token."""
    return hash_bytes(b"", salt(name))


def cross_name(parts: tuple[str, ...]) -> str:
    """The name under which a cross is salted and shown."""
    return "*".join(parts)


def _lookup_table(salts: NDArray[np.uint64]) -> NDArray[np.int32]:
    size = 4
    while size < 4 * len(salts):
        size *= 2
    table = np.full(size, UNKNOWN, dtype=np.int32)
    for number, value in enumerate(salts):
        cell = int(value) & (size - 1)
        while table[cell] != UNKNOWN:
            cell = (cell + 1) & (size - 1)
        table[cell] = number
    return table


def _pointers(lengths: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def make_plan(schema: Schema, bits: int) -> Plan:
    """The plan of ``schema`` for 2**bits slots."""
    entries = planned_fields(schema)
    fields = [field for field, _ in entries]
    if len(fields) > MAX_PLANNED_FIELDS:
        raise ConfigError(
            f"schema {schema.name!r}: names {len(fields)} fields, more than {MAX_PLANNED_FIELDS}"
        )
    number = {field.name: index for index, field in enumerate(fields)}
    names = [field.name.encode() for field in fields]
    salts = np.array([salt(field.name) for field in fields], dtype=np.uint64)
    missing = [field.name for field in fields if field.missing == "feature"]
    table = np.zeros((len(fields), 8), dtype=np.int64)
    table[:, KIND] = [kind for _, kind in entries]
    table[:, TRANSFORM] = [_TRANSFORMS[field.transform] for field in fields]
    table[:, SEPARATOR] = [field.separator.encode()[0] for field in fields]
    edge_ptr = _pointers([len(field.edges) for field in fields])
    name_ptr = _pointers([len(name) for name in names])
    table[:, EDGE_LO], table[:, EDGE_HI] = edge_ptr[:-1], edge_ptr[1:]
    table[:, NAME_LO], table[:, NAME_HI] = name_ptr[:-1], name_ptr[1:]
    table[[number[part] for cross in schema.crosses for part in cross], CROSSED] = 1
    return Plan(
        shift=np.uint64(64 - check_bits(bits)),
        others=AUTO if schema.others == "auto" else SKIP,
        label_at_least=np.nan if schema.label_at_least is None else schema.label_at_least,
        salts=salts,
        fields=table,
        edges=np.array([edge for field in fields for edge in field.edges], dtype=np.float64),
        names=as_buffer(b"".join(names), padding=8),
        table=_lookup_table(salts),
        cross_salts=np.array([salt(cross_name(c)) for c in schema.crosses], dtype=np.uint64),
        cross_ptr=_pointers([len(cross) for cross in schema.crosses]),
        missing_fields=np.array([number[name] for name in missing], dtype=np.int64),
        missing_hashes=np.array([missing_hash(name) for name in missing], dtype=np.uint64),
        missing_bits=np.uint64(sum(1 << number[name] for name in missing if len(fields) <= BIT_FIELDS)),
        missing_by_field=np.array(
            [missing_hash(field.name) for field in fields] + [0] * (BIT_FIELDS + 1), dtype=np.uint64
        ),
        cross_fields=np.array([number[p] for cross in schema.crosses for p in cross], dtype=np.int64),
    )


@inlined
def find_field(plan: Plan, salt_of_name: np.uint64) -> int:
    """The number of the field whose name has this salt (64 bits: taken as the name), or UNKNOWN."""
    mask = len(plan.table) - 1
    cell = np.int64(salt_of_name & np.uint64(mask))
    while at(plan.table, cell) != UNKNOWN:
        number = np.int64(at(plan.table, cell))
        if at(plan.salts, number) == salt_of_name:
            return int(number)
        cell = (cell + 1) & mask
    return UNKNOWN
