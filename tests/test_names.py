"""Names of learned features: kept within bounds, true, and without any effect on what is learned."""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine import FeatureHasher, Schema
from ftrl_engine.errors import ConfigError, CorruptFileError
from ftrl_engine.learners.base import check_parameters, find_learner
from ftrl_engine.naming import Feature
from streams import name_collector
from streams.cadence import Cadence
from streams.codecs.base import Codec, open_codec
from streams.model_directory import ModelDirectory, ModelSettings
from streams.name_store import NAMES_A_SLOT, NameStore
from streams.names import LONGEST_NAME, Names, shorten
from streams.simulate import ClickStream, to_jsonl
from streams.source import open_source
from streams.train_options import TrainOptions
from streams.trainer import Trainer

SCHEMA = Schema.load("clicks")
BITS = 16
texts = st.text(max_size=20)
mappings = st.dictionaries(
    st.integers(0, 255), st.lists(texts, min_size=1, max_size=4, unique=True), max_size=20
)


@given(mappings)
def test_a_file_gives_the_names_back(mapping: dict[int, list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "names.safetensors"
        size = Names.of(mapping).save(path, SCHEMA, 8)
        assert size == path.stat().st_size
        names = Names.load(path, SCHEMA, 8)
    for slot in range(256):
        wanted = [name.encode("utf-8", "replace").decode() for name in mapping.get(slot, [])]
        assert list(names[slot]) == wanted
    assert len(names) == sum(map(len, mapping.values()))
    assert [slot for slot, _ in names.items()] == sorted(s for s, found in mapping.items() for _ in found)


def test_files_that_are_damaged_or_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "names.safetensors"
    Names.of({1: ["a=x"], 5: ["b=y", "c"]}).save(path, SCHEMA, BITS)
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CorruptFileError, match=r"names\.safetensors"):
            Names.load(path, SCHEMA, BITS)
    path.write_bytes(whole)
    for schema, bits in ((Schema(), BITS), (SCHEMA, BITS + 1)):
        with pytest.raises(CorruptFileError, match="another model"):
            Names.load(path, schema, bits)
    good = Names.of({1: ["a"], 2: ["b"]})
    for wrong in (
        Names(good.slots[::-1].copy(), good.ends, good.text),
        Names(good.slots, good.ends + 1, good.text),
        Names(good.slots, good.ends[::-1].copy(), good.text),
        Names(good.slots[:1], good.ends, good.text),
    ):
        wrong.save(path, SCHEMA, BITS)
        with pytest.raises(CorruptFileError, match="not a complete file of names"):
            Names.load(path, SCHEMA, BITS)


# The store.

adds = st.lists(st.tuples(st.integers(0, 63), st.sampled_from("abcdef") | texts), max_size=120)


@given(adds, st.integers(1, 30), st.lists(st.floats(-2, 2), min_size=64, max_size=64))
def test_a_store_stays_within_its_bounds(
    added: list[tuple[int, str]], limit: int, weights: list[float]
) -> None:
    store = NameStore(64, limit)
    everything = np.arange(64, dtype=np.uint32)
    for slot, name in added:
        room = not store.full
        new = store.add(slot, name)
        names = store.names()
        assert not new or (room and name in names[slot])
        assert len(names) == len(store) <= limit
        assert all(len(names[s]) <= NAMES_A_SLOT for s in range(64))
        assert store.named(everything).tolist() == [bool(names[s]) for s in range(64)]
        if store.full:
            before = {s for s in range(64) if names[s]}
            store.make_room(lambda slots: np.array(weights)[slots])
            kept = {s for s in before if store.names()[s]}
            assert not store.full
            dropped = before - kept
            assert dropped
            assert all(abs(weights[s]) <= store.floor for s in dropped)
            assert min((abs(weights[s]) for s in kept), default=9.0) >= max(abs(weights[s]) for s in dropped)


def test_names_of_slots_without_a_weight_go_first() -> None:
    store = NameStore(100, 10)
    for slot in range(10):
        store.add(slot, f"n{slot}")
    weights = np.array([0.0, 1e-9, 0.0, 5, -5, 1, 2, 3, 4, -1e-8])
    store.make_room(lambda slots: weights[slots])
    assert [s for s in range(10) if store.names()[s]] == [1, 3, 4, 5, 6, 7, 8, 9]
    assert store.floor == 0.0, "none with a weight had to go, so any weight is worth a name"


def test_long_names_are_cut_and_bytes_are_bounded() -> None:
    store = NameStore(1 << 20, 100)
    for slot in range(100):
        store.add(slot, f"{slot}=" + "x" * 10_000)
    names = store.names()
    assert names[0] == (shorten("0=" + "x" * 10_000),)
    assert len(names[0][0]) == LONGEST_NAME
    assert len(names) == 32, "of 64 bytes each on average"
    assert store.full


@pytest.mark.parametrize("limit", [0, -1, 10**9])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    with pytest.raises(ConfigError, match=f"names must be between 1 and 10000000 to be kept, got {limit}"):
        NameStore(16, limit)


# The collector.


@given(st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 3), max_size=40))
def test_first_places_are_those_of_unique(slots: list[int]) -> None:
    array = np.array(slots, dtype=np.uint32)
    found, places = name_collector._first_places(array)
    expected, first = np.unique(array, return_index=True)
    assert found.tolist() == expected.tolist()
    assert places.tolist() == first.tolist()


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clicks") / "clicks.jsonl"
    path.write_bytes(to_jsonl(ClickStream(seed=2, ctr=0.2).block(0, 30_000)))
    return path


class Clock:
    """A clock that moves on by ``step`` with every look."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def learn(
    clicks: Path, folder: Path, codec_class: Any = None, **options: Any
) -> tuple[ModelDirectory, Trainer]:
    parameters = check_parameters(find_learner("ftrl_proximal"), {"l1": 0.3})
    warnings: list[str] = []
    settings = ModelSettings("ftrl_proximal", parameters, BITS, SCHEMA)
    model = ModelDirectory.create(folder, settings, warnings.append)
    source = open_source(str(clicks))
    codec = open_codec("jsonl", SCHEMA, BITS)
    if codec_class is not None:
        codec = codec_class(SCHEMA, BITS, True)
    often = Cadence(rows=7000)
    with Trainer(model, TrainOptions(checkpoint_every=often, publish_every=often, **options)) as trainer:
        trainer.learn_from(source, codec)
        trainer.finish(source)
    source.close()
    trainer.warnings = warnings  # type: ignore[attr-defined]
    return model, trainer


def content(model: ModelDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.checkpoints()}


def test_names_are_true_and_change_nothing(
    clicks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_collector, "SHARE", 100.0)
    with_names, trainer = learn(clicks, tmp_path / "with")
    without, other = learn(clicks, tmp_path / "without", names=0)
    assert content(with_names) == content(without)
    assert trainer.learner.state.tobytes() == other.learner.state.tobytes()
    assert not without.names_path.exists()
    names = Names.load(with_names.names_path, SCHEMA, BITS)
    hasher = FeatureHasher(SCHEMA, BITS)
    tokens = 0
    for slot, name in names.items():
        field, equals, value = name.partition("=")
        if equals and "*" not in field:
            assert hasher.slot(field, value) == slot
            tokens += 1
    assert tokens > 100
    slots, weights = trainer.learner.weights()
    largest = slots[np.argsort(-abs(weights))][:50]
    assert all(names[int(slot)] for slot in largest)


def test_a_small_run_names_what_matters(
    clicks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short, the end of a run gets some time; more of it here, where the machine may be busy."""
    monkeypatch.setattr(name_collector, "END_SECONDS", 0.5)
    model, trainer = learn(clicks, tmp_path / "m")
    names = Names.load(model.names_path, SCHEMA, BITS)
    slots, weights = trainer.learner.weights()
    largest = slots[np.argsort(-abs(weights))][:10]
    assert sum(bool(names[int(slot)]) for slot in largest) >= 8


def test_features_of_one_slot_are_both_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_collector, "END_SECONDS", 60.0)
    monkeypatch.setattr(name_collector, "_SHARING_SECONDS", 60.0)
    lines = [
        b'{"click": %d, "user": "u%d", "item": "i%d"}' % (i % 3 // 2, i % 40, i % 60) for i in range(2000)
    ]
    path = tmp_path / "e.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    settings = ModelSettings(
        "ftrl_proximal", check_parameters(find_learner("ftrl_proximal"), {"l1": 0.0}), 5, Schema()
    )
    model = ModelDirectory.create(tmp_path / "m", settings)
    with Trainer(model, TrainOptions()) as trainer:
        source = open_source(str(path))
        trainer.learn_from(source, open_codec("jsonl", Schema(), 5))
        trainer.finish(source)
    names = Names.load(model.names_path, Schema(), 5)
    hasher = FeatureHasher(Schema(), 5)
    for slot in range(32):
        own = {f"user=u{i}" for i in range(40) if hasher.slot("user", f"u{i}") == slot}
        own |= {f"item=i{i}" for i in range(60) if hasher.slot("item", f"i{i}") == slot}
        assert set(names[slot]) <= own
        assert len(names[slot]) >= min(2, len(own)), (slot, names[slot], own)


def test_the_next_run_goes_on_with_the_names(clicks: Path, tmp_path: Path) -> None:
    model, _ = learn(clicks, tmp_path / "m")
    first = dict(Names.load(model.names_path, SCHEMA, BITS).items())
    more = tmp_path / "more.jsonl"
    more.write_bytes(to_jsonl(ClickStream(seed=9, ctr=0.2).block(3, 2000)))
    learn(more, tmp_path / "m")
    second = Names.load(model.names_path, SCHEMA, BITS)
    assert all(name in second[slot] for slot, name in first.items())
    model.names_path.write_bytes(b"damaged")
    _, trainer = learn(more, tmp_path / "m")
    assert any("collecting names anew" in text for text in trainer.warnings)  # type: ignore[attr-defined]
    assert len(Names.load(model.names_path, SCHEMA, BITS)) > 0


def test_a_record_is_read_once_for_all_its_names(
    clicks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of its features have no name."""
    from streams.codecs.jsonl import JsonlCodec

    read: list[tuple[int, int]] = []

    class Counting(JsonlCodec):
        def names_near(self, block: Any, record: int, wanted: Any) -> Any:
            read.append((block.first, record))
            return super().names_near(block, record, wanted)

        def features(self, block: Any, record: int, only: Any = None) -> list[Feature]:
            read.append((block.first, record))
            return super().features(block, record, only)

    monkeypatch.setattr(name_collector, "SHARE", 0.0)  # one visit, at the end
    monkeypatch.setattr(name_collector, "END_SECONDS", 60.0)
    monkeypatch.setattr(name_collector, "_SHARING_ROWS", 0)
    monkeypatch.setitem(globals(), "SCHEMA", Schema())  # without crosses
    _, trainer = learn(clicks, tmp_path / "m", Counting)
    assert trainer._names is not None
    assert len(trainer._names.store) > 200
    assert len(read) == len(set(read)) > 20


def test_the_share_of_the_time_is_kept(clicks: Path, tmp_path: Path) -> None:
    """Of the processor time of the process, or of all time where that is little."""
    learn(clicks, tmp_path / "warm")  # what is compiled counts as nobody's share
    # Garbage neither, which after compiling takes a third of a second of whoever looks for it.
    gc.disable()
    began, busy = time.monotonic(), time.process_time()
    try:
        _, trainer = learn(clicks, tmp_path / "m")
    finally:
        gc.enable()
    allowed = max(
        name_collector.SHARE * (time.process_time() - busy),
        name_collector.IDLE_SHARE * (time.monotonic() - began),
    )
    allowed += name_collector.RUN_SECONDS + name_collector.END_SECONDS + name_collector._SHARING_SECONDS
    assert trainer._names is not None
    # It may be passed by the row at hand, by choosing the rows, and by writing the file.
    assert 0.0 < trainer._names._spent <= allowed + 0.05


def test_a_slow_stream_gets_its_names_in_time(
    clicks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of waiting cost no processor time, but allow some for names."""
    monkeypatch.setattr(name_collector, "RUN_SECONDS", 0.0)
    monkeypatch.setattr(name_collector, "END_SECONDS", 0.0)
    few = tmp_path / "few.jsonl"
    few.write_bytes(b"".join(clicks.read_bytes().splitlines(keepends=True)[:3000]))
    _, quick = learn(few, tmp_path / "quick", clock=Clock(0.0))
    model, slow = learn(few, tmp_path / "slow", clock=Clock(3600.0))
    assert quick._names is not None
    assert slow._names is not None
    assert len(slow._names.store) > 2 * len(quick._names.store)
    slots, weights = slow.learner.weights()
    names = Names.load(model.names_path, SCHEMA, BITS)
    assert all(names[int(slot)] for slot in slots[np.argsort(-abs(weights))][:20])


def test_a_failure_of_naming_ends_naming_alone(clicks: Path, tmp_path: Path) -> None:
    from streams.codecs.jsonl import JsonlCodec

    class Broken(JsonlCodec):
        def features(self, block: Any, record: int, only: Any = None) -> list[Feature]:
            raise ZeroDivisionError("inside")

    model, trainer = learn(clicks, tmp_path / "m", Broken)
    assert trainer.rows == 30_000
    (warning,) = trainer.warnings  # type: ignore[attr-defined]
    assert "no more names" in warning
    assert not model.names_path.exists()
    without, _ = learn(clicks, tmp_path / "n", names=0)
    assert content(model) == content(without)


def test_every_codec_names_in_another_thread_than_it_encodes() -> None:
    """The columns of the block at hand count, not those of the one being encoded."""
    from tests.blocks import make_block

    codec: Codec = open_codec("csv", Schema(), BITS)
    one, other = make_block([b"1,x"], header=b"label,a"), make_block([b"y,0"], header=b"b,label")
    list(codec.encode(one))
    list(codec.encode(other))
    assert [feature.name for feature in codec.features(one, 0)] == ["a=x"]


def test_a_name_cannot_command_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ftrl_engine.cli import main

    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"click": 1, "a": "\\u001b[31m[red]\\n"}\n' * 50 + b'{"click": 0, "a": "x"}\n' * 50)
    flags = ["--model", str(tmp_path / "m"), "--l1", "0", "--quiet"]
    assert main(["learn", str(path), *flags]) == 0
    assert main(["inspect", "--model", str(tmp_path / "m")]) == 0
    shown = capsys.readouterr().out
    assert "a=\\x1b[31m[red]\\n" in shown
    assert "\x1b[31m" not in shown
