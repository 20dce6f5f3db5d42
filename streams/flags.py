"""Flags that several commands share."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ftrl_engine.errors import ConfigError

if TYPE_CHECKING:
    from ftrl_engine.schema import Schema
    from streams.source import Source, SourceOptions
    from streams.stopping import Stop

INTERRUPTED = 130
# What is still being done when standard input has ended may take so long.
_LAST_SECONDS = 60.0


def add_source(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """SOURCE and what belongs to reading it."""
    parser.add_argument(
        "source",
        nargs="+" if required else "*",
        metavar="SOURCE",
        help="files, a glob, - for standard input, log:DIR or kafka://HOST:PORT/TOPIC",
    )
    parser.add_argument(
        "--format", metavar="NAME", help="tsv, csv, jsonl, libsvm, vw or parquet (default: by name)"
    )
    add_kafka(parser)


def add_kafka(parser: argparse._ActionsContainer) -> None:
    """--kafka."""
    parser.add_argument(
        "--kafka", metavar="FILE", help="properties for kafka://: security.protocol, sasl.username, ..."
    )


def kafka_options(kafka: str | None, uris: list[str]) -> dict[str, str] | None:
    """The properties of --kafka FILE, over those of FTRL_KAFKA_...; None without a kafka:// address."""
    from pathlib import Path

    if not any(uri.startswith("kafka:") for uri in uris):
        if kafka is not None:
            raise ConfigError(f"--kafka {kafka}: nothing here is a kafka:// address; leave it out")
        return None
    from streams.kafka_options import PROPERTY
    from streams.kafka_properties import environment_properties, read_properties

    given = environment_properties(os.environ) | (read_properties(Path(kafka)) if kafka else {})
    return {PROPERTY + name: value for name, value in given.items()}


def add_output(parser: argparse.ArgumentParser) -> None:
    """--json and --quiet."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, nothing else")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def add_unused_seed(parser: argparse.ArgumentParser) -> None:
    """--seed, which every command takes, where nothing is drawn: help need not show it."""
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)


def add_end_with_stdin(parser: argparse._ActionsContainer) -> None:
    """--end-with-stdin."""
    parser.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="end cleanly when standard input ends: when the program that started this one is gone",
    )


def source_of(words: list[str]) -> str | list[str]:
    """One source as it is, several files as a list."""
    return words[0] if len(words) == 1 else words


def choose_format(source: Source, options: SourceOptions) -> str:
    """The format of an open source; ConfigError where neither it nor the settings tell."""
    name = source.format or options.format or options.default_format
    if name is None:
        raise ConfigError(
            "the format of the events is not known; give --format tsv, csv, jsonl, libsvm or vw"
        )
    return name


def source_options(
    given: str | None,
    model: str | None,
    schema: Schema,
    follow: bool | None = None,
    extra: Mapping[str, str] | None = None,
) -> SourceOptions:
    """How a source is opened: ``given`` is --format, ``model`` the format its model was made with.

    ``follow`` is None where the command has no --follow.
    """
    from streams.source import SourceOptions

    more = dict(extra or {})
    if extra is not None:
        from streams.kafka_fields import message_fields

        more["fields"] = ",".join(message_fields(schema))
        more["schema_format"] = schema.format or ""
    return SourceOptions(
        format=given,
        default_format=model or schema.format,
        follow=bool(follow),
        can_follow=follow is not None,
        columns_known=bool(schema.columns),
        extra=more,
    )


def parameters(pairs: list[str]) -> Mapping[str, float | str]:
    """``name=value`` pairs; numbers become numbers."""
    values: dict[str, float | str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set takes name=value, got {pair!r}")
        try:
            values[name] = float(text)
        except ValueError:
            values[name] = text
    return values


def when_stdin_ends(stop: Callable[[], None]) -> None:
    """Ask for a clean end, from a thread, when standard input ends; the process ends soon in any case."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop()
        time.sleep(_LAST_SECONDS)
        # Nothing waits for this process any more, and whatever it does can be done again from what is saved.
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, name="ftrl-stdin", daemon=True).start()


@contextmanager
def at_once() -> Iterator[None]:
    """While this lasts, the first SIGINT or SIGTERM is a KeyboardInterrupt: there is nothing to save yet."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    with _handled(end):
        yield


@contextmanager
def _handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks for a clean end, the second one insists."""

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with _handled(ask):
        yield
