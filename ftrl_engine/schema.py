"""What raw fields mean: which is the label, which are features and how they become some.

A schema is data. It is written as TOML, travels inside the model, and serves training and
scoring alike. Fields that it does not name are features of kind ``auto`` (or are left out
with ``others = "ignore"``).
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrl_engine.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from ftrl_engine.batch import Batch

MISSING = ("ignore", "feature")
KINDS = ("token", "tokens", "number", "auto")
TRANSFORMS = ("none", "log1p", "log_bucket", "bins")
# The names under which `auto` and files without a `label` look for the label.
LABEL_NAMES = ("label", "click", "clicked", "is_click", "y", "target")
MAX_FIELDS = 4096
MAX_CROSS_FIELDS = 8


@dataclass(frozen=True, slots=True)
class Field:
    """One raw field.

    kind       token: one categorical value; tokens: many, split at ``separator``;
               number: see :mod:`ftrl_engine.numbers`; auto: a decimal (with a point or a
               signed exponent, 1e-5) is a log-bucketed number, everything else a token
    transform  of a number: none, log1p, log_bucket, or bins with their ``edges``
    missing    "ignore": an event without a value (absent, empty or null) has no feature of the
               field; "feature": that it has none is a feature itself (which joins no cross)
    """

    name: str
    kind: str = "auto"
    separator: str = ","
    transform: str = "none"
    edges: tuple[float, ...] = ()
    missing: str = "ignore"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(
                f"field {self.name!r}: kind must be one of {', '.join(KINDS)}, got {self.kind!r}"
            )
        if self.transform not in TRANSFORMS:
            raise ConfigError(
                f"field {self.name!r}: transform must be one of {', '.join(TRANSFORMS[:-1])} "
                f"(or give bins = [...]), got {self.transform!r}"
            )
        if self.missing not in MISSING:
            raise ConfigError(
                f"field {self.name!r}: missing must be {' or '.join(MISSING)}, got {self.missing!r}"
            )
        if len(self.separator.encode()) != 1:
            raise ConfigError(f"field {self.name!r}: separator must be one byte, got {self.separator!r}")
        if self.transform == "bins":
            finite = all(math.isfinite(edge) for edge in self.edges)
            if not self.edges or not finite or list(self.edges) != sorted(set(self.edges)):
                raise ConfigError(
                    f"field {self.name!r}: bins must be finite and strictly rising, got {list(self.edges)}"
                )


@dataclass(frozen=True, slots=True)
class Schema:
    """The meaning of every raw field; see the module for the defaults.

    label           the label's field; None takes the one of LABEL_NAMES that occurs
    label_at_least  where given, the label is 1 if the field's number is at least this, else 0;
                    otherwise the field must hold 0 or 1, true or false
    timestamp       a field that is the event's time, not a feature
    weight          a field that is the event's importance, not a feature
    crosses         each a list of fields whose values are also taken together
    columns         the fields of text without a header line, in order
    others          "auto" or "ignore": what becomes of fields that are not named
    format          the format to assume where the source does not tell
    """

    name: str = "auto"
    label: str | None = None
    label_at_least: float | None = None
    timestamp: str | None = None
    weight: str | None = None
    ignore: tuple[str, ...] = ()
    crosses: tuple[tuple[str, ...], ...] = ()
    fields: tuple[Field, ...] = ()
    columns: tuple[str, ...] = ()
    others: str = "auto"
    format: str | None = None

    def __post_init__(self) -> None:
        special = [n for n in (self.label, self.timestamp, self.weight) if n is not None]
        names = [*special, *(field.name for field in self.fields), *self.ignore]
        _refuse_repeats(names, "is given two meanings; keep one")
        _refuse_repeats(self.columns, "stands twice in columns; every column needs its own name")
        if self.others not in ("auto", "ignore"):
            raise ConfigError(f"schema {self.name!r}: others must be auto or ignore, got {self.others!r}")
        if max(len(self.columns), len(names)) > MAX_FIELDS:
            raise ConfigError(f"schema {self.name!r}: at most {MAX_FIELDS} fields are allowed")
        for cross in self.crosses:
            if not 2 <= len(cross) <= MAX_CROSS_FIELDS or len(set(cross)) < len(cross):
                raise ConfigError(
                    f"cross {list(cross)}: a cross joins 2 to {MAX_CROSS_FIELDS} different fields"
                )
            for part in cross:
                if part in special or part in self.ignore:
                    raise ConfigError(f"cross {list(cross)}: {part!r} is not a feature of this schema")

    @classmethod
    def load(cls, source: str | Path) -> Schema:
        """A built-in schema by its name, or a TOML file by its path."""
        name = str(source)
        packaged = resources.files("ftrl_engine") / "schemas" / f"{name}.toml"
        if "/" not in name and "\\" not in name and packaged.is_file():
            return cls.from_toml(packaged.read_text(encoding="utf-8"), name)
        path = Path(source)
        if not path.is_file():
            raise ConfigError(
                f"schema {name!r}: neither a file nor one of the built-in schemas {', '.join(built_in())}"
            )
        try:
            return cls.from_toml(path.read_text(encoding="utf-8"), path.stem)
        except (ConfigError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def from_toml(cls, text: str, name: str = "schema") -> Schema:
        """Parse the TOML form; unknown keys are errors."""
        try:
            return cls.from_dict({"name": name} | tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"schema {name!r} is not valid TOML: {error}") from error

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        """The inverse of :meth:`to_dict`."""
        values = dict(data)
        label, at_least = values.pop("label", None), None
        if isinstance(label, Mapping):
            _refuse_unknown(label, {"field", "at_least"}, "label")
            at_least = _number(label.get("at_least"), "label.at_least")
            label = _text(label.get("field"), "label.field")
        known = set(cls.__dataclass_fields__) - {"label_at_least"}
        _refuse_unknown(values, known, f"schema {values.get('name', '')!r}")
        for key in ("timestamp", "weight", "others", "format", "name"):
            if values.get(key) is not None:
                values[key] = _text(values[key], key)
        for key in ("ignore", "columns"):
            values[key] = _texts(values.get(key, ()), key)
        crosses = values.get("crosses", ())
        if not isinstance(crosses, list | tuple):
            raise ConfigError(f"crosses must be a list of lists of fields, got {crosses!r}")
        values["crosses"] = tuple(_texts(cross, "crosses") for cross in crosses)
        fields = values.get("fields", {})
        if not isinstance(fields, Mapping):
            raise ConfigError(f"fields must be a table [fields], got {fields!r}")
        values["fields"] = tuple(_field(key, value) for key, value in fields.items())
        label = None if label is None else _text(label, "label")
        return cls(label=label, label_at_least=at_least, **values)

    def to_dict(self) -> dict[str, Any]:
        """Plain data without defaults, ready for TOML or JSON."""
        result: dict[str, Any] = {"name": self.name}
        if self.label_at_least is not None:
            result["label"] = {"field": self.label, "at_least": self.label_at_least}
        elif self.label is not None:
            result["label"] = self.label
        for key in ("timestamp", "weight", "format"):
            if getattr(self, key) is not None:
                result[key] = getattr(self, key)
        if self.others != "auto":
            result["others"] = self.others
        for key in ("ignore", "columns"):
            if getattr(self, key):
                result[key] = list(getattr(self, key))
        if self.crosses:
            result["crosses"] = [list(cross) for cross in self.crosses]
        if self.fields:
            result["fields"] = {field.name: _plain(field) for field in self.fields}
        return result

    def with_crosses(self, crosses: tuple[tuple[str, ...], ...]) -> Schema:
        """The same schema with other crosses."""
        return replace(self, crosses=crosses)

    def encode(self, frame: pd.DataFrame, bits: int = 22) -> Batch:
        """The rows of a pandas frame as a Batch with 2**bits slots (see :mod:`ftrl_engine.frames`)."""
        from ftrl_engine.frames import encode_frame

        return encode_frame(self, frame, bits)


def built_in() -> list[str]:
    """The names of the built-in schemas."""
    folder = resources.files("ftrl_engine") / "schemas"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _plain(field: Field) -> dict[str, Any]:
    result: dict[str, Any] = {"kind": field.kind}
    if field.kind == "tokens":
        result["separator"] = field.separator
    if field.transform == "bins":
        result["bins"] = list(field.edges)
    elif field.kind == "number":
        result["transform"] = field.transform
    if field.missing != "ignore":
        result["missing"] = field.missing
    return result


def _field(name: str, data: object) -> Field:
    if not isinstance(data, Mapping):
        raise ConfigError(f'field {name!r}: must be a table such as {{ kind = "token" }}, got {data!r}')
    _refuse_unknown(data, {"kind", "separator", "transform", "bins", "missing"}, f"field {name!r}")
    kind = _text(data.get("kind", "number" if "bins" in data else "auto"), f"field {name!r}: kind")
    if "separator" in data and kind != "tokens":
        raise ConfigError(f"field {name!r}: separator belongs to kind tokens, not {kind}")
    if kind != "number" and ("transform" in data or "bins" in data):
        raise ConfigError(f"field {name!r}: transform and bins belong to kind number, not {kind}")
    separator = _text(data.get("separator", ","), f"field {name!r}: separator")
    missing = _text(data.get("missing", "ignore"), f"field {name!r}: missing")
    if "bins" not in data:
        transform = _text(data.get("transform", "none"), f"field {name!r}: transform")
        if transform == "bins":
            raise ConfigError(f'field {name!r}: give the edges, bins = [...], instead of transform = "bins"')
        return Field(name, kind, separator, transform, missing=missing)
    if "transform" in data:
        raise ConfigError(f"field {name!r}: give either transform or bins, not both")
    bins = data["bins"]
    if not isinstance(bins, list | tuple):
        raise ConfigError(f"field {name!r}: bins must be a list of numbers, got {bins!r}")
    edges = tuple(_number(edge, f"field {name!r}: bins") for edge in bins)
    return Field(name, kind, separator, "bins", edges, missing)


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{key} must be text, got {value!r}")
    return value


def _texts(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{key} must be a list of field names, got {value!r}")
    return tuple(_text(item, key) for item in value)


def _number(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{key} must be a finite number, got {value!r}")
    return float(value)


def _refuse_unknown(data: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")


def _refuse_repeats(names: list[str] | tuple[str, ...], why: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"field {name!r} {why}")
        seen.add(name)
