"""What the page is made of, without a browser: its files, its policy, and the numbers it asks for."""

from __future__ import annotations

import asyncio
import re
import time
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving import create_app
from serving.history import KEPT, History, Sample
from serving.page import FOLDER, TYPES, load_files
from serving.scorer import Scorer
from serving.store import Served
from serving.top_weights import LARGEST, TopWeights
from streams.names import FILE, Names
from tests.test_serving_app import BITS, EVENT, SCHEMA, publish, with_client

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_and_its_files(tmp_path: Path) -> None:
    async def do(client: httpx.AsyncClient) -> None:
        index = await client.get("/")
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        named = set(re.findall(r'(?:src|href)="static/([^"]+)"', index.text))
        assert {"page.js", "page.css", "uPlot.iife.min.js"} <= named <= set(load_files())
        for name in load_files():
            answer = await client.get(f"/static/{name}")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == TYPES[Path(name).suffix]
            assert answer.content == (FOLDER / name).read_bytes()
            for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"):
                assert part in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = await client.get(f"/static/{name}", headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            other = await client.get(f"/static/{name}", headers={"if-none-match": '"other"'})
            assert other.status_code == 200
        for lost in ("/static/none.js", "/static/..%2fpage.py", "/static/"):
            assert (await client.get(lost)).status_code == 404

    with_client(create_app(tmp_path), do)


def test_the_files_run_nothing_from_elsewhere() -> None:
    for name, file in load_files().items():
        text = file.body.decode()
        if name.endswith((".html", ".css", ".js")):
            addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.]+\.[a-z]{2,}[^\s\"')]*", text))
            assert addresses <= {"http://www.w3.org/2000/svg", "https://github.com/leeoniya/uPlot"}, name
        if not name.startswith("uPlot"):
            assert not re.search(r"\son[a-z]+=|style=|innerHTML|insertAdjacentHTML|\beval\b", text), name
    assert "uPlot 1.6.32" in load_files()["NOTICE.txt"].body.decode()
    assert load_files()["uPlot.iife.min.js"].body.startswith(
        b"/*! https://github.com/leeoniya/uPlot (v1.6.32)"
    )


def test_every_file_is_in_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["serving"]
    for path in FOLDER.iterdir():
        assert any(fnmatch(f"static/{path.name}", pattern) for pattern in patterns), path


def test_the_page_needs_no_token_and_its_numbers_do(tmp_path: Path) -> None:
    async def do(client: httpx.AsyncClient) -> None:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/static/page.js")).status_code == 200
        for path in ("/stats.json", "/weights.json", "/static", "/statics/x"):
            assert (await client.get(path)).status_code == 401
            shown = await client.get(path, headers={"authorization": "Bearer right"})
            assert shown.status_code == (200 if path.endswith("json") else 404)

    publish(tmp_path, 5)
    with_client(create_app(tmp_path, token="right"), do)


def test_statistics_follow_what_happens(tmp_path: Path) -> None:
    async def do(client: httpx.AsyncClient) -> None:
        first = (await client.get("/stats.json")).json()
        assert first["columns"] == list(Sample.__struct_fields__)
        for _ in range(3):
            await client.post("/score", json=EVENT | {"candidates": [{}, {}]})
        await client.post("/score", content=b"{")
        etag = (await client.get("/static/page.js")).headers["etag"]
        kept = await client.get("/static/page.js", headers={"if-none-match": etag})
        assert kept.status_code == 304, "a file that the browser has is no error"
        last, found = first["samples"][-1][0], first
        for _ in range(300):
            found = (await client.get(f"/stats.json?after={last:.0f}")).json()
            if found["samples"]:
                break
            await asyncio.sleep(0.1)
        sample = dict(zip(found["columns"], found["samples"][-1], strict=True))
        assert all(values[0] > last for values in found["samples"])
        assert (sample["scored"], sample["candidates"], sample["errors"]) == (3, 6, 1)
        assert sum(sample["latencies"]) == 3
        assert len(sample["latencies"]) == len(found["latency_bounds"]) + 1
        assert (sample["rows"], sample["nonzero_weights"], sample["log_loss"]) == (77, 1 << BITS, 0.25)
        assert sample["calibration"] is None
        assert found["model"]["rows"] == 77
        assert found["server"] == {"workers": 1, "draining": False, "reload_error": None}
        for wrong in ("x", "", "-1", "0.5", "1&after=2", "nan"):
            assert (await client.get(f"/stats.json?after={wrong}")).status_code == 400

    publish(tmp_path, 77)
    with_client(create_app(tmp_path), do)


def test_without_a_model_there_are_statistics_and_no_weights(tmp_path: Path) -> None:
    async def do(client: httpx.AsyncClient) -> None:
        found = (await client.get("/stats.json")).json()
        assert found["model"] is None
        assert found["samples"][-1][8:] == [None] * 7
        assert (await client.get("/weights.json")).status_code == 503

    with_client(create_app(tmp_path / "none"), do)


@given(st.lists(st.floats(0.2, 1.4), max_size=40))
def test_the_history_has_each_second_once_and_no_more_than_it_keeps(steps: list[float]) -> None:
    now = 1000.0
    timers: list[float] = []

    class Loop:
        def call_later(self, seconds: float, *call: Any) -> None:
            timers.append(seconds)

    history = History(lambda at: Sample(at, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, []), lambda: now, kept=10)
    for step in steps:
        history._next(Loop())  # type: ignore[arg-type]
        now += step
    times = [sample.time for sample in history.after(0.0)]
    assert times == sorted(set(times))
    assert len(times) <= 10
    assert all(at == round(at) and abs(at - 1000) <= sum(steps) + 1 for at in times)
    assert all(0.1 <= seconds <= 1.5 for seconds in timers)
    assert KEPT <= 1000


@given(
    st.dictionaries(st.integers(0, 255), st.floats(-4, 4, width=32).filter(bool), max_size=100), st.booleans()
)
def test_the_largest_weights_are_those(weights: dict[int, float], named: bool) -> None:
    slots = np.array(sorted(weights), dtype=np.uint32)
    values = np.array([weights[slot] for slot in slots.tolist()], dtype=np.float32)
    snapshot = Snapshot(slots, values, 0.0, 8, Schema(), {})
    served = Served.of(Scorer(snapshot), Path("x"), ("x", 0, 0, 0))
    names = Names.of({slot: [f"a={slot}", "b=1"] for slot in weights}) if named else None
    found = TopWeights.of(served, names)
    for listed, sign in ((found.positive, 1.0), (found.negative, -1.0)):
        sizes = sorted((sign * weight for weight in weights.values() if sign * weight > 0), reverse=True)
        assert [sign * one.weight for one in listed] == sizes[:LARGEST]
        assert all(weights[one.slot] == one.weight for one in listed)
        assert all(one.names == ((f"a={one.slot}", "b=1") if named else ()) for one in listed)


def test_weights_come_with_names(tmp_path: Path) -> None:
    async def do(client: httpx.AsyncClient) -> None:
        found = (await client.get("/weights.json")).json()
        assert found["version"].startswith("5-")
        assert found["negative"] == []
        assert len(found["positive"]) == LARGEST
        assert {name for one in found["positive"] for name in one["names"]} <= {"user=<b>"}
        assert (await client.get("/weights.json")).json() == found

    publish(tmp_path, 5)
    Names.of({slot: ["user=<b>"] for slot in range(1 << BITS)}).save(tmp_path / FILE, SCHEMA, BITS)
    with_client(create_app(tmp_path), do)


def test_a_million_weights_are_looked_through_at_once() -> None:
    random = np.random.default_rng(0)
    count = 1_000_000
    weights = random.normal(size=count).astype(np.float32)
    snapshot = Snapshot(np.arange(count, dtype=np.uint32), weights, 0.0, 20, Schema(), {})
    served = Served.of(Scorer(snapshot), Path("x"), ("x", 0, 0, 0))
    began = time.process_time()
    TopWeights.of(served, None)
    assert time.process_time() - began < 0.5
