"""The model directory: what was asked for, checkpoints, snapshots, refused events.

::

    MODEL/model.toml                     settings, written once
    MODEL/checkpoints/<rows>.safetensors
    MODEL/snapshots/<rows>.safetensors
    MODEL/rejected.jsonl
    MODEL/names.safetensors              names of learned features; advice, never needed
    MODEL/.lock                          held by the one learner
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import filelock
import tomli_w

from ftrl_engine.errors import ConfigError, CorruptFileError, ModelError
from ftrl_engine.schema import Schema
from ftrl_engine.schema_differences import differences
from streams.names import FILE

FORMAT = 1
KEPT_CHECKPOINTS = 3
KEPT_SNAPSHOTS = 5
SUFFIX = ".safetensors"
_HEADER = "# The settings of this model, written once when it was made. Learning again needs none of them.\n"

Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Everything that decides what is learned from an event."""

    learner: str
    parameters: Mapping[str, float | str]
    bits: int
    schema: Schema
    passes: int = 1
    format: str | None = None

    def to_toml(self) -> str:
        data: dict[str, Any] = {
            "format": FORMAT,
            "learner": {"name": self.learner, "bits": self.bits, "passes": self.passes, **self.parameters},
            "schema": self.schema.to_dict(),
        }
        if self.format:
            data["events"] = {"format": self.format}
        return _HEADER + tomli_w.dumps(data)

    @classmethod
    def from_toml(cls, text: str) -> ModelSettings:
        data = tomllib.loads(text)
        if data.get("format") != FORMAT:
            raise ConfigError(f"format {data.get('format')!r} is not {FORMAT}; use the version that made it")
        learner = dict(data["learner"])
        return cls(
            learner=learner.pop("name"),
            bits=learner.pop("bits"),
            passes=learner.pop("passes"),
            parameters=learner,
            schema=Schema.from_dict(data["schema"]),
            format=data.get("events", {}).get("format"),
        )

    def facts(self) -> dict[str, object]:
        """Every setting by the name users know it by."""
        return {
            "learner": self.learner,
            "bits": self.bits,
            "passes": self.passes,
            "schema": self.schema,
            "format": self.format,
            **self.parameters,
        }


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """Paths and files of one model; ``warn`` is told of damaged files that are passed over."""

    path: Path
    settings: ModelSettings
    warn: Callable[[str], None] = field(default=lambda message: None)

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Whether a model has been made there."""
        return (path / "model.toml").is_file()

    @classmethod
    def may_be_made(cls, path: Path) -> bool:
        """Whether nothing but remains of a model that was never learned stands in the way."""
        remains = {"checkpoints", "snapshots", "rejected.jsonl", FILE, ".lock"}
        # A file .tmp-... is what is left of one that was not written to its end.
        return not path.is_dir() or all(
            (entry.name in remains or entry.name.startswith(".tmp-"))
            and not (entry.is_dir() and any(entry.iterdir()))
            for entry in path.iterdir()
        )

    @classmethod
    def create(
        cls, path: Path, settings: ModelSettings, warn: Callable[[str], None] = lambda message: None
    ) -> ModelDirectory:
        """Make the directory and write its settings."""
        try:
            for folder in (path, path / "checkpoints", path / "snapshots"):
                folder.mkdir(parents=True, exist_ok=True)
            _write_text(path / "model.toml", settings.to_toml())
        except OSError as error:
            if path.exists() and not path.is_dir():
                raise ModelError(f"model {path}: is a file; name a directory with --model") from error
            raise ModelError(
                f"model {path}: cannot be written: {error.strerror or error}; "
                "make it writable or use another --model"
            ) from error
        return cls(path, settings, warn)

    @classmethod
    def open(cls, path: Path, warn: Callable[[str], None] = lambda message: None) -> ModelDirectory:
        """An existing model."""
        try:
            settings = ModelSettings.from_toml((path / "model.toml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"model {path}: there is none (no model.toml); "
                f"learn one with: ftrl learn SOURCE --model {path}"
            ) from None
        except (KeyError, ValueError, AttributeError, TypeError, OSError) as error:
            raise ModelError(f"model {path}: model.toml cannot be read: {error}") from error
        return cls(path, settings, warn)

    def check_flags(self, wanted: Mapping[str, object]) -> None:
        """Refuse a setting that contradicts the model."""
        facts = self.settings.facts()
        for name, value in wanted.items():
            if name not in facts:
                raise ConfigError(f"the {self.settings.learner} model {self.path} has no parameter {name!r}")
            if value != facts[name]:
                contradiction = f"--{name} {_shown(value)} contradicts the model {self.path}"
                how = f", which was made with {name} {_shown(facts[name])}"
                if isinstance(value, Schema):
                    how = f": {differences(value, self.settings.schema)}"
                raise ConfigError(f"{contradiction}{how}; leave the flag out or use another --model")

    def lock(self) -> filelock.BaseFileLock:
        """Hold the model for learning; ModelError where another learner has it."""
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise ModelError(
                f"model {self.path}: another learner is at work on it; stop that one or use another --model"
            ) from None
        except OSError as error:
            raise ModelError(
                f"model {self.path}: cannot be locked: {error.strerror or error}; "
                "make the directory writable for who learns"
            ) from error
        for folder in (self.path, self.path / "checkpoints", self.path / "snapshots"):
            # Only the holder of the lock writes here, so these are remains of one that died.
            for left in folder.glob(".tmp-*"):
                left.unlink(missing_ok=True)
        return lock

    @property
    def rejects_path(self) -> Path:
        return self.path / "rejected.jsonl"

    @property
    def names_path(self) -> Path:
        return self.path / FILE

    def checkpoint_path(self, rows: int) -> Path:
        return self.path / "checkpoints" / f"{rows}{SUFFIX}"

    def snapshot_path(self, rows: int) -> Path:
        return self.path / "snapshots" / f"{rows}{SUFFIX}"

    def checkpoints(self) -> list[Path]:
        """Checkpoint files, newest first."""
        return _numbered(self.path / "checkpoints")

    def snapshots(self) -> list[Path]:
        """Snapshot files, newest first."""
        return newest_snapshots(self.path)

    def newest(self, files: list[Path], load: Callable[[Path], Loaded]) -> Loaded | None:
        """The first file that loads; None where there are no files, ModelError where all are damaged."""
        problems = []
        for path in files:
            try:
                return load(path)
            except (CorruptFileError, FileNotFoundError) as error:
                problems.append(str(error))
                self.warn(f"{error}; trying the one before it")
        if problems:
            raise ModelError(
                f"model {self.path}: no undamaged file among {len(files)}: {problems[0]}; "
                "restore one from a backup or start a new model in another directory"
            )
        return None

    def forget(self) -> None:
        """Undo :meth:`create` where nothing was learned; refused events are kept for a look."""
        if not self.checkpoints() and not self.snapshots():
            (self.path / "model.toml").unlink(missing_ok=True)

    def set_aside(self, newest: Path | None) -> None:
        """Rename checkpoints beyond ``newest``, the one learning goes on from: they are damaged."""
        for path in self.checkpoints():
            if path == newest:
                return
            path.replace(path.with_name(path.name + ".damaged"))

    def prune(self) -> None:
        """Remove all but the newest checkpoints and snapshots."""
        for path in (*self.checkpoints()[KEPT_CHECKPOINTS:], *self.snapshots()[KEPT_SNAPSHOTS:]):
            path.unlink(missing_ok=True)


def newest_snapshots(path: Path) -> list[Path]:
    """The snapshot files of the model at ``path``, newest first."""
    return _numbered(path / "snapshots")


def _numbered(folder: Path) -> list[Path]:
    """Files named by a number of rows, most rows first."""
    return sorted(_entries(folder), key=lambda path: int(path.stem), reverse=True)


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [entry for entry in folder.iterdir() if entry.suffix == SUFFIX and entry.stem.isdigit()]


def _shown(value: object) -> str:
    return value.name if isinstance(value, Schema) else f"{value}"


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
