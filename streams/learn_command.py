"""Learn from events: predict each one, then learn from it; checkpoint and publish on the way.

Run again on the same --model and it continues exactly where it stopped, with the settings of
the model. A setting that contradicts the model is an error.

examples:
  ftrl learn clicks.jsonl --model m
  ftrl learn 'day-*.tsv.gz' --schema criteo --model m --json
  ftrl learn log:events --model m --follow
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from ftrl_engine.learners import learner_names
from streams import flags

if TYPE_CHECKING:
    from ftrl_engine.schema import Schema
    from streams.model_directory import ModelDirectory
    from streams.progress import ProgressLine
    from streams.sink import Sink
    from streams.train_options import TrainOptions
    from streams.trainer import Trainer

DEFAULT_BITS = 22
DEFAULT_LEARNER = "ftrl_proximal"
_COMMON = ("alpha", "beta", "l1", "l2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_source(parser)
    parser.add_argument("--model", required=True, metavar="DIR", help="the model directory; made if missing")
    add_settings(parser)
    parser.add_argument("--passes", type=int, metavar="N", help="times over the source (default 1)")
    parser.add_argument("--follow", action="store_true", help="wait for more events at the end")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N learned events")
    flags.add_end_with_stdin(parser)
    flags.add_unused_seed(parser)
    flags.add_output(parser)


def add_settings(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What is learned and how often it is saved; `ftrl serve --learn` takes the same flags."""
    learner = parser.add_argument_group("learner (kept in the model; only needed the first time)")
    others = ", ".join(name for name in learner_names() if name != DEFAULT_LEARNER)
    learner_flags = [
        learner.add_argument("--schema", metavar="NAME|FILE", help="what the fields mean (default: auto)"),
        learner.add_argument("--learner", metavar="NAME", help=f"{DEFAULT_LEARNER} (default), {others}"),
        *(
            learner.add_argument(f"--{name}", type=float, metavar="X", help=meaning)
            for name, meaning in (
                ("alpha", "rate (ftrl_proximal: 0.1)"),
                ("beta", "damps the first steps (1)"),
                ("l1", "keeps weights at exactly 0 (1)"),
                ("l2", "shrinks weights (1)"),
            )
        ),
        learner.add_argument("--intercept", metavar="KIND", help="base_rate (default), plain or none"),
        learner.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="any other parameter of the learner (see docs/learners.md), as in --set power=0.4",
        ),
        learner.add_argument("--bits", type=int, metavar="B", help=f"2**B slots (default {DEFAULT_BITS})"),
    ]
    saving = parser.add_argument_group("learning")
    return [
        *learner_flags,
        saving.add_argument(
            "--checkpoint-every", default="30s", metavar="T", help="500ms, 30s, 5m or 100000rows (30s)"
        ),
        saving.add_argument("--publish-every", default="1s", metavar="T", help="the same for snapshots (1s)"),
        saving.add_argument(
            "--names", type=int, metavar="N", help="names of learned features to keep (200000; 0: none)"
        ),
        saving.add_argument(
            "--rejects", metavar="DEST", help="a file or kafka:// topic for refused events (rejected.jsonl)"
        ),
        saving.add_argument(
            "--start", metavar="T", help="kafka:// on first contact: earliest (default), latest or a time"
        ),
        saving.add_argument(
            "--on-lost-data",
            choices=("stop", "skip"),
            help="when kafka:// events are gone: stop (default), skip",
        ),
    ]


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from ftrl_engine import jit
    from ftrl_engine.errors import ConfigError
    from streams.cadence import Cadence
    from streams.model_directory import ModelDirectory
    from streams.own_source import refuse_own_source
    from streams.progress import ProgressLine

    Cadence.parse(args.checkpoint_every, "--checkpoint-every")
    Cadence.parse(args.publish_every, "--publish-every")
    if args.names is not None and args.names < 0:
        raise ConfigError(f"--names must be at least 0, got {args.names}")
    if args.end_with_stdin and "-" in args.source:
        raise ConfigError("--end-with-stdin: standard input is the source already; leave the flag out")
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {args.limit}")
    if args.rejects is not None:
        refuse_own_source("--rejects", args.rejects, args.source)
    with ProgressLine(args.quiet) as progress:
        if jit.cache_is_cold():
            progress.say("compiling (once for this version on this machine, 15 to 20 s) ...")
        new = not ModelDirectory.exists(Path(args.model))
        model = open_model(args, progress)
        try:
            return _learn(args, model, progress)
        finally:
            if new:
                model.forget()


def open_model(args: argparse.Namespace, progress: ProgressLine) -> ModelDirectory:
    """The model of --model, made with the given settings or checked against them."""
    from pathlib import Path

    from ftrl_engine.errors import ConfigError, ModelError
    from ftrl_engine.hashing import check_bits
    from ftrl_engine.learners.base import check_parameters, find_learner
    from ftrl_engine.schema import Schema
    from streams.model_directory import ModelDirectory, ModelSettings

    path = Path(args.model)
    given = {name: getattr(args, name) for name in (*_COMMON, "intercept") if getattr(args, name) is not None}
    given |= flags.parameters(args.set)
    schema = None if args.schema is None else Schema.load(args.schema)
    if ModelDirectory.exists(path):
        model = ModelDirectory.open(path, progress.say)
        wanted = {"learner": args.learner, "bits": args.bits, "passes": args.passes, "schema": schema}
        model.check_flags({k: v for k, v in wanted.items() if v is not None} | given)
        return model
    if not ModelDirectory.may_be_made(path):
        raise ModelError(f"model {path}: the directory is not empty and holds no model; use another --model")
    learner = find_learner(args.learner or DEFAULT_LEARNER)
    passes = 1 if args.passes is None else args.passes
    if not 1 <= passes <= 1000:
        raise ConfigError(f"--passes must be between 1 and 1000, got {passes}")
    settings = ModelSettings(
        learner=learner.name,
        parameters=check_parameters(learner, given),
        bits=check_bits(DEFAULT_BITS if args.bits is None else args.bits),
        schema=schema or Schema.load("auto"),
        passes=passes,
        format=args.format,
    )
    _check_source(args, settings.schema)
    return ModelDirectory.create(path, settings, progress.say)


def _check_source(args: argparse.Namespace, schema: Schema) -> None:
    """Open and close the source, so that a wrong name leaves no model behind."""
    from streams.source import open_source

    if not args.follow and args.source != ["-"]:
        options = flags.source_options(args.format, None, schema, args.follow, _kafka(args))
        open_source(flags.source_of(args.source), {}, options).close()


def _kafka(args: argparse.Namespace) -> dict[str, str] | None:
    """What the flags say about a kafka:// source; None for other sources."""
    from pathlib import Path

    from ftrl_engine.errors import ConfigError

    chosen = {"start": args.start, "on_lost_data": args.on_lost_data}
    given = {name: value for name, value in chosen.items() if value is not None}
    uris = [*args.source, args.rejects or ""]
    extra = flags.kafka_options(args.kafka, uris)
    if not any(uri.startswith("kafka:") for uri in args.source):
        if given:
            raise ConfigError("--start and --on-lost-data are for kafka:// sources; leave them out")
        return None
    return {"default_group": f"ftrl-{Path(args.model).resolve().name}"} | (extra or {}) | given


def _learn(args: argparse.Namespace, model: ModelDirectory, progress: ProgressLine) -> int:
    from streams.cadence import Cadence
    from streams.learn_report import damage_warnings, report, summary, table, warnings_of
    from streams.name_store import DEFAULT_LIMIT
    from streams.passes import of_pass
    from streams.stopping import Stop
    from streams.train_options import TrainOptions
    from streams.trainer import Trainer

    options = TrainOptions(
        limit=args.limit,
        checkpoint_every=Cadence.parse(args.checkpoint_every, "--checkpoint-every"),
        publish_every=Cadence.parse(args.publish_every, "--publish-every"),
        stop=Stop(),
        report=lambda trainer: report(trainer, progress),
        rejects=_rejects(args),
        names=DEFAULT_LIMIT if args.names is None else args.names,
    )
    if args.end_with_stdin:
        flags.when_stdin_ends(options.stop.set)
    with Trainer(model, options) as trainer, flags.stop_on_signals(options.stop):
        unmet = _passes(args, model, trainer, options)
        seconds = options.clock() - trainer.started
        result = summary(trainer, seconds)
    warnings = warnings_of(model.settings.schema, unmet, trainer.rows)
    if warnings := warnings + damage_warnings(of_pass(trainer.damage, 1), "learned"):
        result["warnings"] = warnings
        for text in warnings:
            progress.say(f"warning: {text}")
    if args.json:
        print(json.dumps(result))
    elif not args.quiet:
        progress.say(table(result))
    if options.stop.is_set():
        progress.say("interrupted; the same command goes on from here")
        return flags.INTERRUPTED
    if trainer.rejected and not trainer.rows and not trainer.met_only_known_damage():
        print(
            f"ftrl learn: all {trainer.rejected:,} events were refused ({trainer.first_reason}); "
            f"see {model.rejects_path}",
            file=sys.stderr,
        )
        return 1
    return 0


def _rejects(args: argparse.Namespace) -> Sink | None:
    """Where refused events go, if not into the model."""
    if args.rejects is None:
        return None
    from streams.rejects import open_rejects

    return open_rejects(args.rejects, flags.kafka_options(args.kafka, [*args.source, args.rejects]))


def _passes(
    args: argparse.Namespace, model: ModelDirectory, trainer: Trainer, options: TrainOptions
) -> set[str]:
    """Learn; returns the crossed fields that no event had a value of."""
    from dataclasses import replace

    from streams.codecs.base import open_codec
    from streams.memory import keep_loaded
    from streams.source import open_source

    settings = model.settings
    unmet = {name for cross in settings.schema.crosses for name in cross}
    for number in range(1, settings.passes + 1):
        how = flags.source_options(args.format, settings.format, settings.schema, args.follow, _kafka(args))
        how = replace(how, marks=trainer.source_marks(number))
        with flags.at_once():  # a broker may be waited for
            source = open_source(flags.source_of(args.source), trainer.source_positions(number), how)
        try:
            codec = open_codec(flags.choose_format(source, how), settings.schema, settings.bits)
            keep_loaded()
            complete = trainer.learn_from(source, codec, number)
            unmet &= codec.unmet()
            if not complete or number == settings.passes:
                if trainer.rows or not trainer.rejected:
                    trainer.finish(source)
                # Otherwise all were refused: nothing is saved, so that a better flag sees them again.
                break
        finally:
            source.close()
    return unmet
