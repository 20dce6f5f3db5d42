"""Every event learned exactly once, whatever dies: killed learners give the bytes of learning from a file."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from ftrl_engine.hashing import hash_bytes, salt
from tests.kafka_learner import start
from tests.kafka_topic import CLIENTS, Topic

pytestmark = pytest.mark.kafka

KILLS = 25
ROWS = 300_000
BITS = 20


@pytest.fixture(scope="module")
def criteo() -> list[bytes]:
    """200,000 Criteo events: real ones, repeated, where they are at hand, else simulated."""
    real = Path(__file__).parents[2] / "shared" / "data" / "criteo" / "dac_60k.tsv.gz"
    if real.is_file():
        lines = gzip.decompress(real.read_bytes()).splitlines()
    else:
        from streams.simulate import criteo_rows

        lines = criteo_rows(seed=3, rows=60_000).splitlines()
    return (lines * (1 + ROWS // len(lines)))[:ROWS]


def newest(model: Path) -> int:
    folder = model / "checkpoints"
    return max((int(path.stem) for path in folder.glob("*.safetensors")), default=0) if folder.is_dir() else 0


def contents(model: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """The arrays and the metadata of the final checkpoint, without where it stands in its source."""
    path = model / "checkpoints" / f"{newest(model)}.safetensors"
    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    for of_source in ("positions", "marks"):
        metadata.pop(of_source)
    # A checksum over the whole content differs with the positions.
    metadata = {name: value for name, value in metadata.items() if "sum" not in name and "digest" not in name}
    return {name: str(a.dtype).encode() + a.tobytes() for name, a in arrays.items()}, metadata


def finish(words: Sequence[str], output: Path) -> None:
    process = start(words, output)
    process.join(120)
    assert process.exitcode == 0, output.read_text()[-2000:]


def kill_on_the_way(words: Sequence[str], model: Path, output: Path, kills: int, rows: int, seed: int) -> int:
    """Start and kill -9 a learner at random moments, spread over all of its work; returns how many met it."""
    chance = random.Random(seed)
    met = 0
    for number, share in enumerate(sorted(chance.random() for _ in range(kills))):
        process = start(words, output)
        deadline = time.monotonic() + 60
        if number % 5:
            while newest(model) < share * 0.9 * rows and process.is_alive() and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.015)
        else:
            time.sleep(chance.random() * 0.2)  # while it connects, or a little later
        met += process.is_alive()
        process.kill()
        process.join(30)
    return met


@pytest.mark.parametrize("client", CLIENTS)
def test_25_kills_give_the_bytes_of_learning_from_a_file(
    kafka_servers: str, criteo: list[bytes], client: str, tmp_path: Path
) -> None:
    output = tmp_path / "output.txt"
    events = tmp_path / "events.tsv"
    events.write_bytes(b"\n".join(criteo) + b"\n")
    common = ["--schema", "criteo", "--bits", str(BITS), "--quiet", "--model"]
    finish(["learn", str(events), *common, str(tmp_path / "file")], output)
    with Topic(kafka_servers) as topic:
        # Half of it one event a message, half packed, so that kills fall into messages as well.
        packed = [b"\n".join(criteo[at : at + 37]) for at in range(ROWS // 2, ROWS, 37)]
        topic.send(criteo[: ROWS // 2], compression="lz4")
        topic.send(packed, compression="lz4")
        model = tmp_path / "kafka"
        words = ["learn", f"{topic.uri}?client={client}", *common, str(model), "--publish-every", "9000rows"]
        words += ["--checkpoint-every", "1500rows"]
        met = kill_on_the_way(words, model, output, KILLS, ROWS, seed=11)
        assert met >= KILLS * 4 // 5, f"the learner was too fast: {met} of {KILLS} kills met it"
        finish(words, output)
    assert newest(model) == ROWS
    assert contents(model) == contents(tmp_path / "file")


@pytest.mark.parametrize("client", CLIENTS)
def test_every_id_of_four_partitions_is_learned_exactly_once(
    kafka_servers: str, client: str, tmp_path: Path
) -> None:
    output, model, rows = tmp_path / "output.txt", tmp_path / "model", 60_000
    with Topic(kafka_servers, partitions=4) as topic:
        for number in range(4):
            events = [
                json.dumps({"id": f"e{at}", "n": at % 7, "label": int(at % 3 == 0)}).encode()
                for at in range(number, rows, 4)
            ]
            topic.send(events, partition=number)
        words = ["learn", f"{topic.uri}?client={client}", "--model", str(model), "--bits", "22", "--quiet"]
        words += ["--checkpoint-every", "2000rows"]
        assert kill_on_the_way(words, model, output, 8, rows, seed=7) >= 6
        finish(words, output)
    assert newest(model) == rows
    once, never, more = audit(model, [f"e{at}" for at in range(rows)], 22)
    assert (never, more) == (0, 0)
    assert once > 0.9 * rows


def audit(model: Path, ids: Sequence[str], bits: int) -> tuple[int, int, int]:
    """How many ids (those that share their slot left out) were learned once, never and more often.

    FTRL-Proximal's state of a feature seen once, from zero, is z = g and n = g * g; a second time
    adds a square to n and, the weight being 0 still, another g to z.
    """
    path = model / "checkpoints" / f"{newest(model)}.safetensors"
    with safe_open(path, "numpy") as file:
        slots, state = file.get_tensor("slots"), file.get_tensor("state")
    key = salt("id")
    wanted = np.array([hash_bytes(text.encode(), key) >> (64 - bits) for text in ids], np.uint64)
    _, first, counts = np.unique(wanted, return_index=True, return_counts=True)
    alone = wanted[first[counts == 1]].astype(np.uint32)
    at = np.searchsorted(slots, alone)
    found = (at < len(slots)) & (slots[np.minimum(at, len(slots) - 1)] == alone)
    z, n = state[at[found], 0], state[at[found], 1]
    once = int((z * z == n).sum())
    return once, int((~found).sum()), int(found.sum()) - once
