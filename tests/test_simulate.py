"""The simulated streams: the truth they plant, the text they write, and `ftrl simulate`."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine import cli
from ftrl_engine.errors import ConfigError
from ftrl_engine.numbers import log_bucket
from ftrl_engine.schema import Schema
from streams import simulate_command
from streams.click_events import AD_FORMATS, COLUMNS, CONTEXTS, DEVICES
from streams.draws import zipf
from streams.log_segments import segments
from streams.simulate import (
    BestLogLoss,
    ClickStream,
    Events,
    best_log_loss,
    criteo_rows,
    criteo_rows_vw,
    to_csv,
    to_jsonl,
    to_tsv,
    to_vw,
)
from streams.simulate_criteo import BLOCK_ROWS, CriteoStream, log_buckets, to_criteo, to_criteo_vw
from streams.sink import open_sink
from streams.stopping import Stop
from streams.text_columns import decimals, join_rows, numerals, word_table

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def stream() -> ClickStream:
    return ClickStream(seed=3, users=5000, items=1000)


@pytest.fixture(scope="module")
def events(stream: ClickStream) -> Events:
    return stream.block(2, 40_000)


def plain(events: Events) -> list[dict[str, object]]:
    """The events written out one by one, an oracle for every text form."""
    return [
        {
            "id": f"e{events.number[i]}",
            "timestamp": events.milliseconds[i] / 1000,
            "user_id": f"u{events.user_id[i]}",
            "segment": f"s{events.segment[i]}",
            "item_id": f"i{events.item_id[i]}",
            "category": f"c{events.category[i]}",
            "site": f"p{events.site[i]}",
            "device": DEVICES[events.device[i]].decode(),
            "hour": int(events.hour[i]),
            "position": int(events.position[i]) + 1,
            "ad_format": AD_FORMATS[events.ad_format[i]].decode(),
            "context": CONTEXTS[events.context[i]].decode(),
            "price": events.cents[i] / 100,
            "tags": [f"t{tag}" for tag in events.tags[i] if tag >= 0],
            "click": int(events.label[i]),
        }
        for i in range(len(events))
    ]


def test_a_block_depends_on_seed_and_index_only(stream: ClickStream) -> None:
    def same(a: Events, b: Events) -> bool:
        return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in Events.__slots__)

    block = stream.block(5, 300)
    assert same(block, ClickStream(seed=3, users=5000, items=1000).block(5, 300))
    assert not same(block, ClickStream(seed=4, users=5000, items=1000).block(5, 300))
    assert not np.array_equal(block.user_id, stream.block(6, 300).user_id)
    assert block.number.tolist() == list(range(1500, 1800))
    assert same(block.part(10, 20), Events(*(getattr(block, name)[10:20] for name in Events.__slots__)))


def test_the_clock_is_synthetic() -> None:
    block = ClickStream(users=10, items=10, start=1000.0, rate=4.0).block(1, 8)
    assert (block.milliseconds / 1000).tolist() == [1002 + i / 4 for i in range(8)]


def test_probability_is_the_planted_formula(stream: ClickStream, events: Events) -> None:
    w = stream.effects
    for i in range(0, 2000, 7):
        at = {
            name: int(getattr(events, name)[i])
            for name in Events.__slots__
            if getattr(events, name).ndim == 1
        }
        x = stream.intercept - 0.3 * math.log(at["cents"] / 2000)
        for name in ("user_id", "item_id", "category", "site", "device", "hour", "position", "ad_format"):
            x += w[name][at[name]]
        x += w["context"][at["context"]]
        x += sum(w["tags"][tag] for tag in events.tags[i] if tag >= 0)
        x += w["segment x category"][at["segment"]][at["category"]]
        x += w["device x ad_format"][at["device"]][at["ad_format"]]
        x += w["item_id drift"][at["item_id"]] * math.sin(stream._phase[at["item_id"]])
        assert events.probability[i] == pytest.approx(1 / (1 + math.exp(-x)), rel=1e-9)


def test_most_ids_have_no_effect_at_all(stream: ClickStream) -> None:
    for name in ("user_id", "item_id", "site", "tags", "segment x category"):
        share = np.count_nonzero(stream.effects[name]) / stream.effects[name].size
        assert 0.02 < share < 0.35, name
    assert stream.effects["tags"][-1] == 0.0


@pytest.mark.parametrize("ctr", [0.003, 0.05, 0.4])
def test_mean_click_rate_is_the_one_asked_for(ctr: float) -> None:
    block = ClickStream(seed=1, users=2000, items=500, ctr=ctr).block(0, 60_000)
    assert block.probability.mean() == pytest.approx(ctr, rel=0.1)
    assert abs(block.label.sum() - block.probability.sum()) < 5 * math.sqrt(ctr * 60_000)


def test_labels_are_drawn_with_their_true_probabilities(events: Events) -> None:
    order = np.argsort(events.probability)
    for part in np.array_split(order, 10):
        p = events.probability[part]
        spread = math.sqrt(float((p * (1 - p)).sum()))
        assert abs(events.label[part].sum() - p.sum()) < 4.5 * spread
    assert events.probability[order[-400:]].mean() > 5 * events.probability[order[:400]].mean()


def test_drift_moves_items_slowly_and_only_when_asked() -> None:
    still, moving = (ClickStream(seed=2, users=100, items=50, drift=drift) for drift in (0.0, 1.0))
    assert moving.block(0, 10).probability == pytest.approx(still.block(0, 10).probability, rel=1e-3)
    matters = moving._drifts & (moving.effects["item_id"] != 0)
    assert 0 < matters.sum() < 25
    late = moving.block(250, 1000), still.block(250, 1000)  # event 250,000: a quarter of a turn
    assert np.array_equal(late[0].item_id, late[1].item_id)
    changed = late[0].probability != late[1].probability
    assert np.array_equal(changed, matters[late[0].item_id])


def test_best_log_loss_is_the_entropy_up_to_chance(events: Events) -> None:
    loss, expected = best_log_loss(events)
    rate = events.label.mean()
    constant = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    p = events.probability
    deviation = float(np.sqrt((p * (1 - p) * np.log(p / (1 - p)) ** 2).sum())) / len(events)
    assert abs(loss - expected) < 4 * deviation
    assert expected < 0.95 * constant
    slow = -np.mean([math.log(q if y else 1 - q) for y, q in zip(events.label, p, strict=True)])
    assert loss == pytest.approx(slow, rel=1e-12)
    whole, parts = BestLogLoss(), BestLogLoss()
    whole.update(events.label, p)
    for start in range(0, len(events), 7000):
        part = events.part(start, start + 7000)
        parts.update(part.label, part.probability)
    assert (parts.rows, parts.clicks) == (len(events), int(events.label.sum()))
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
    assert math.isnan(BestLogLoss().loss)


def test_zipf_ranks_fall_and_stay_inside() -> None:
    ranks = zipf(np.random.default_rng(0).random(100_000), 1000, 1.1, 2.0)
    counts = np.bincount(ranks, minlength=1000)
    assert counts.size == 1000
    assert counts[0] > counts[10] > counts[100] > counts[900]
    density = (np.arange(1000) + 2.5) ** -1.1
    assert counts[:20] == pytest.approx(100_000 * (density / density.sum())[:20], rel=0.15)
    assert zipf(np.array([0.0, np.nextafter(1.0, 0)]), 7, 1.1, 2.0).tolist() == [0, 6]


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=20))
def test_numerals_are_decimal_text(values: list[int]) -> None:
    text = join_rows([numerals(np.array(values)), b"\n"], len(values))
    assert text == "".join(f"{value}\n" for value in values).encode()
    sizes = np.abs(np.array(values))
    text = join_rows([*decimals(sizes, 3), b","], len(values))
    assert text == "".join(f"{v // 1000}.{v % 1000:03d}," for v in sizes.tolist()).encode()
    assert join_rows([numerals(sizes % 100, 2)], len(values)) == b"".join(b"%02d" % (v % 100) for v in sizes)


def test_word_table_has_an_empty_word_at_the_end() -> None:
    table = word_table([b"a", b"long"])
    assert join_rows([table[np.array([1, -1, 0])], b";"], 3) == b"long;;a;"


def test_jsonl_is_the_events(events: Events) -> None:
    part = events.part(0, 1500)
    lines = to_jsonl(part).splitlines()
    assert [json.loads(line) for line in lines] == plain(part)
    assert list(json.loads(lines[0])) == [*COLUMNS[1:], COLUMNS[0]]
    with_truth = [
        json.loads(line)["true_probability"] for line in to_jsonl(part, with_truth=True).splitlines()
    ]
    assert with_truth == pytest.approx(part.probability.tolist(), abs=6e-10)


def test_tsv_and_csv_are_the_events(events: Events) -> None:
    part = events.part(0, 1500)
    wanted = [
        [
            "|".join(v) if isinstance(v, list) else f"{v:.3f}" if name == "timestamp" else
            f"{v:.2f}" if name == "price" else str(v)
            for name, v in ((name, event[name]) for name in COLUMNS)
        ]
        for event in plain(part)
    ]  # fmt: skip
    assert [line.split("\t") for line in to_tsv(part).decode().splitlines()] == wanted
    rows = list(csv.reader(io.StringIO(to_csv(part).decode())))
    assert rows == [list(COLUMNS), *wanted]
    with_truth = list(csv.DictReader(io.StringIO(to_csv(part, with_truth=True).decode())))
    assert float(with_truth[7]["true_probability"]) == pytest.approx(part.probability[7], abs=6e-10)
    assert to_csv(part, header=False) == to_csv(part).split(b"\n", 1)[1]


def test_vw_is_the_events(events: Events) -> None:
    part = events.part(0, 1500)
    for line, event in zip(to_vw(part).decode().splitlines(), plain(part), strict=True):
        label, *namespaces = line.split(" |")
        assert label == ("1" if event["click"] else "-1")
        found = {words.split()[0]: words.split()[1:] for words in namespaces}
        assert list(found) == list(COLUMNS[3:])
        assert found.pop("tags") == event["tags"]
        assert found.pop("price") == [f"price:{event['price']:.2f}"]
        assert found == {name: [str(event[name])] for name in found}


def test_schema_names_the_columns() -> None:
    schema = Schema.load("clicks")
    assert schema.columns == COLUMNS
    assert schema.label == "click"
    assert {field.name for field in schema.fields} <= set(COLUMNS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed must be from 0"),
        ({"users": 0}, "users must be from 1 to 10000000; got 0"),
        ({"items": 10**9}, "items must be from 1"),
        ({"ctr": 0.0}, "ctr must be from 1e-06"),
        ({"ctr": math.nan}, "ctr must be from"),
        ({"drift": -0.1}, "drift must be from"),
        ({"rate": 0.0}, "rate must be from"),
    ],
)
def test_bad_parameters_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClickStream(**settings)  # type: ignore[arg-type]


def test_criteo_rows_have_the_form_of_the_real_log() -> None:
    text = criteo_rows(7, 4000)
    rows = [line.split(b"\t") for line in text.splitlines()]
    assert len(rows) == 4000
    assert {len(row) for row in rows} == {40}
    assert {row[0] for row in rows} == {b"0", b"1"}
    assert all(re.fullmatch(rb"-?\d{0,6}", cell) for row in rows for cell in row[1:14])
    assert all(re.fullmatch(rb"([0-9a-f]{8})?", cell) for row in rows for cell in row[14:])
    missing = np.array([[cell == b"" for cell in row] for row in rows]).mean(axis=0)
    assert missing[12] > 0.7
    assert missing[2] == 0
    assert 0.7 < missing[35] < 0.82
    assert criteo_rows(7, 100) == b"".join(text.splitlines(keepends=True)[:100])
    assert criteo_rows(8, 100) != criteo_rows(7, 100)


def test_criteo_blocks_follow_each_other() -> None:
    stream = CriteoStream(5)
    both = to_criteo(stream.block(0, BLOCK_ROWS)) + to_criteo(stream.block(1, BLOCK_ROWS).part(0, 3))
    assert criteo_rows(5, BLOCK_ROWS + 3) == both


def test_criteo_clicks_can_be_learned() -> None:
    rows = CriteoStream(1).block(0, 40_000)
    best = BestLogLoss()
    best.update(rows.label, rows.probability)
    assert best.ctr == pytest.approx(0.2, abs=0.015)
    assert best.loss == pytest.approx(best.expected, abs=0.01)
    assert best.expected < 0.42  # a constant reaches 0.500
    # A value weighs the same wherever it stands: its rows click more, or less, all along.
    first, second = slice(0, 20_000), slice(20_000, None)
    lift = []
    for column in range(26):
        value = np.bincount(np.unique(rows.categories[:, column], return_inverse=True)[1]).argmax()
        frequent = np.unique(rows.categories[:, column])[value]
        has = rows.categories[:, column] == frequent
        lift.append(
            [rows.label[part][has[part]].mean() - rows.label[part].mean() for part in (first, second)]
        )
    assert np.corrcoef(np.array(lift).T)[0, 1] > 0.8


def test_criteo_vw_holds_the_same_features() -> None:
    rows = CriteoStream(2).block(0, 500)
    pairs = zip(to_criteo(rows).decode().splitlines(), to_criteo_vw(rows).decode().splitlines(), strict=True)
    for tsv, vw in pairs:
        label, *cells = tsv.split("\t")
        found_label, counts, categories = vw.split(" |")
        assert found_label == {"0": "-1", "1": "1"}[label]
        buckets = [
            f"I{i}={log_buckets(np.array([int(cell)]))[0]}" for i, cell in enumerate(cells[:13], 1) if cell
        ]
        assert counts.split() == ["i", *buckets]
        assert categories.split() == ["c", *(f"C{i}={cell}" for i, cell in enumerate(cells[13:], 1) if cell)]
    assert criteo_rows_vw(2, 500) == to_criteo_vw(CriteoStream(2).block(0, BLOCK_ROWS).part(0, 500))


def test_log_buckets_part_the_counts_like_the_schema_does() -> None:
    counts = np.arange(-1, 5000)
    ours, theirs = log_buckets(counts), np.array([log_bucket(float(count)) for count in counts])
    assert np.array_equal(np.diff(ours) != 0, np.diff(theirs) != 0)


def simulate(*words: object) -> int:
    return cli.main(["simulate", *map(str, words)])


@pytest.mark.parametrize("name", ["e.jsonl", "e.tsv", "e.csv", "e.vw", "e", "e.json", "e.NDJSON"])
def test_command_writes_files_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate_command, "BLOCK_ROWS", 1000)
    path = tmp_path / name
    assert simulate("--to", path, "--rows", 2500, "--seed", 9, "--users", 50, "--json") == 0
    stream = ClickStream(9, users=50)
    blocks = [stream.block(i, 1000) for i in range(3)]
    write = {"tsv": to_tsv, "csv": to_csv, "vw": to_vw}.get(path.suffix[1:], to_jsonl)
    whole = [write(block.part(0, 1000 if i < 2 else 500)) for i, block in enumerate(blocks)]
    if path.suffix == ".csv":
        whole[1:] = [text.split(b"\n", 1)[1] for text in whole[1:]]
    assert path.read_bytes() == b"".join(whole)
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    labels = np.concatenate([b.label for b in blocks])[:2500]
    assert (result["rows"], result["clicks"], result["seed"]) == (2500, labels.sum(), 9)
    assert result["format"] == (path.suffix[1:] if path.suffix in (".tsv", ".csv", ".vw") else "jsonl")
    assert 0.05 < result["best_log_loss"] < 0.4
    assert result["expected_log_loss"] == pytest.approx(result["best_log_loss"], rel=0.2)
    assert "2,500 events to" in printed.err


def test_command_compresses_and_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst"):
        assert simulate("--to", tmp_path / name, "--rows", 300, "--users", 50, "--quiet") == 0
    text = (tmp_path / "a.jsonl").read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == text
    with zstandard.open(tmp_path / "a.jsonl.zst", "rb") as file:
        assert file.read() == text
    assert capsys.readouterr() == ("", "")


def test_a_file_named_parquet_is_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("streams.click_parquet._GROUP_BYTES", 100_000)
    monkeypatch.setattr(simulate_command, "BLOCK_ROWS", 500)
    words = ["--rows", 2500, "--seed", 9, "--users", 50, "--quiet", "--with-truth"]
    assert simulate("--to", tmp_path / "e.parquet", *words) == 0
    assert simulate("--to", tmp_path / "e.csv", *words) == 0
    file = parquet.ParquetFile(tmp_path / "e.parquet")
    assert 1 < file.metadata.num_row_groups < 10
    rows = file.read().to_pylist()
    lines = list(csv.DictReader((tmp_path / "e.csv").read_text().splitlines()))
    assert [list(row) for row in rows] == [[*COLUMNS, "true_probability"]] * 2500
    for row, line in zip(rows, lines, strict=True):
        for name, value in row.items():
            assert value == (line[name] if isinstance(value, str) else float(line[name])), name
    assert simulate("--to", tmp_path / "none.parquet", "--rows", 0, "--quiet") == 0
    assert parquet.ParquetFile(tmp_path / "none.parquet").metadata.num_rows == 0


def test_every_form_of_the_same_seed_is_learned_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    found = []
    for form in ("jsonl", "csv", "tsv", "parquet"):
        path = tmp_path / f"e.{form}"
        assert simulate("--to", path, "--rows", 5000, "--seed", 4, "--users", 50, "--quiet") == 0
        words = ["learn", str(path), "--model", str(tmp_path / form), "--schema", "clicks", "--json"]
        assert cli.main(words) == 0
        result = json.loads(capsys.readouterr().out)
        found.append({name: result[name] for name in ("rows", "rejected", "log_loss", "nonzero_weights")})
    assert found[0]["rows"] == 5000
    assert found[1:] == found[:1] * 3


def test_command_writes_truth_and_criteo(tmp_path: Path) -> None:
    assert simulate("--to", tmp_path / "t.jsonl", "--rows", 20, "--with-truth", "--ctr", 0.3, "--quiet") == 0
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    assert all(0 < json.loads(line)["true_probability"] < 1 for line in lines)
    assert simulate("--to", tmp_path / "c.tsv", "--format", "criteo", "--rows", 70, "--quiet") == 0
    assert (tmp_path / "c.tsv").read_bytes() == criteo_rows(0, 70)


def test_command_appends_to_a_log(tmp_path: Path) -> None:
    for seed in (1, 2):
        assert simulate("--to", f"log:{tmp_path}", "--rows", 30, "--seed", seed, "--quiet") == 0
    (segment,) = segments(tmp_path)
    wanted = [
        to_jsonl(ClickStream(seed).block(0, simulate_command.BLOCK_ROWS).part(0, 30)) for seed in (1, 2)
    ]
    assert segment.path.read_bytes() == b"".join(wanted)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "-", "--json"], "--json cannot be used with --to -"),
        (["--to", "log:x", "--format", "csv"], "a log holds jsonl"),
        (["--to", "x.vw", "--with-truth"], "--with-truth: vw has no place"),
        (["--to", "x", "--format", "criteo", "--users", "3"], "--users does not apply"),
        (["--to", "x", "--rows", "-1"], "--rows must be at least 0; got -1"),
        (["--to", "x", "--rate", "0"], "--rate must be more than 0"),
        (["--to", "x", "--ctr", "2"], "ctr must be from"),
        (["--to", "ftp://host/x"], "unknown scheme 'ftp'"),
        (["--to", "x.libsvm"], "--to x.libsvm: events are not written as libsvm; end the name in .jsonl"),
        (["--to", "x.txt.gz"], "--to x.txt.gz: events are not written as .txt; end the name in .jsonl"),
        (["--to", "x.parquet.gz"], "--to x.parquet.gz: parquet is written to a file, as it is"),
        (["--to", "-", "--format", "parquet"], "--to -: parquet is written to a file"),
        (["--to", "log:x", "--format", "parquet"], "--to log:x: parquet is written to a file"),
        (["--to", "x.parquet", "--format", "criteo"], "--format criteo: x.parquet is the name of a parquet"),
    ],
)
def test_wrong_usage_is_status_2_and_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert simulate(*words) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x.jsonl", "x.parquet"):
        assert simulate("--to", tmp_path / "no" / name, "--rows", 1) == 1
        assert "there is no directory" in capsys.readouterr().err


def test_sinks_refuse_options_they_do_not_have(tmp_path: Path) -> None:
    for dest in (f"log:{tmp_path}", str(tmp_path / "x")):
        with pytest.raises(ConfigError, match="unknown options speed"):
            open_sink(dest, {"speed": "high"})


@pytest.mark.parametrize("dest", ["-", "log:{}"])
def test_interrupt_ends_on_a_whole_record_with_status_130(tmp_path: Path, dest: str) -> None:
    words = ["simulate", "--to", dest.format(tmp_path / "log"), "--rate", "2000"]
    code = "import sys; from ftrl_engine.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if dest == "-":
                first = process.stdout.readline()
            else:
                first = b""
                deadline = time.monotonic() + 20
                while not segments(tmp_path / "log") and time.monotonic() < deadline:
                    time.sleep(0.01)
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            text = first + process.stdout.read()
            summary = process.stderr.read().decode()
            assert process.wait() == 130
        finally:
            process.kill()  # one that hangs would hold up the end of this block
    if dest != "-":
        text = b"".join(segment.path.read_bytes() for segment in segments(tmp_path / "log"))
    assert text.endswith(b"}\n")
    rows = text.count(b"\n")
    assert f"{rows:,} events to" in summary
    assert summary.count("\n") == 1
    assert 100 < rows < 20_000


def test_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    stop = Stop()

    def wait(seconds: float | None = None) -> bool:
        now[0] += seconds or 0.0
        return False

    monkeypatch.setattr(stop, "wait", wait)
    pace = simulate_command._Pace(500.0, stop, clock=lambda: now[0])
    sent = 0
    while sent < 2000:
        count = pace.allow(sent, 1000)
        sent += count
        assert sent <= now[0] * 500.0 + 1e-6
        assert count >= 10  # together every 20 ms, not one by one
    assert now[0] == pytest.approx(4.0, abs=0.03)
    stop.set()
    assert pace.allow(sent, 1) == 0
