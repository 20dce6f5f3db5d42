"""What others speak: KServe v2, TensorFlow Serving and MLflow give the scores of POST /score."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ftrl_engine import Schema, Snapshot, build
from ftrl_engine.cli import main
from ftrl_engine.learners.base import Learner
from serving import create_app
from streams.codecs.base import open_codec
from tests.blocks import make_block
from tests.test_serving_app import with_client

BITS = 16
EVENTS = 10_000
BATCH = 500
SCHEMA = Schema.from_toml("""
label = "click"
crosses = [["user", "item"]]
[fields]
user = { kind = "token" }
tags = { kind = "tokens" }
price = { kind = "number", transform = "log_bucket" }
depth = { kind = "number", missing = "feature" }
""")
Event = dict[str, Any]


def random_events(count: int, seed: int) -> list[Event]:
    choose = random.Random(seed)
    events: list[Event] = []
    for _ in range(count):
        event: Event = {
            "user": f"ü{choose.randrange(300)}",
            "item": choose.randrange(-5, 500),
            "tags": [f"t{choose.randrange(20)}" for _ in range(choose.randrange(4))],
            "price": choose.choice([2.0, 0.5, 1e-7, 19.99, 1e22, -3.25]) * choose.randrange(1, 9),
            "depth": choose.uniform(-2, 2),
            "rate": float(choose.randrange(50)),
            "new": choose.random() < 0.5,
            'odd "name"': choose.choice(['a"b', "x,y", "\\", "ж"]),
        }
        events.append({field: value for field, value in event.items() if choose.random() < 0.9})
    return events


def lines_of(events: list[Event]) -> list[bytes]:
    return [json.dumps(event, ensure_ascii=False).encode() for event in events]


@pytest.fixture(scope="module")
def learner() -> Learner:
    learner = build("ftrl_proximal", n_slots=1 << BITS, l1=0.05, alpha=0.5)
    choose = random.Random(1)
    events = [
        event | {"click": int(choose.random() < (0.6 if event.get("item", 0) % 3 else 0.2))}
        for event in random_events(5000, 2)
    ]
    for part in open_codec("jsonl", SCHEMA, BITS).encode(make_block(lines_of(events))):
        learner.learn(part.batch)
    return learner


@pytest.fixture(scope="module")
def model(learner: Learner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model directory, as `ftrl score` wants it."""
    from streams.model_directory import ModelDirectory, ModelSettings

    path = tmp_path_factory.mktemp("models") / "ranker"
    settings = ModelSettings("ftrl_proximal", learner.settings, BITS, SCHEMA, format="jsonl")
    ModelDirectory.create(path, settings)
    Snapshot.of(learner, BITS, SCHEMA, {"rows": 5000}).save(path / "snapshots" / "5000.safetensors")
    return path


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return random_events(EVENTS, 3)


def columns_of(events: list[Event], fields: list[str]) -> dict[str, list[Any]]:
    return {field: [event.get(field) for event in events] for field in fields}


FIELDS = ["user", "item", "tags", "price", "depth", "rate", "new", 'odd "name"']
Ask = Callable[[httpx.Client | httpx.AsyncClient, list[Event]], Any]


def kserve_body(events: list[Event]) -> dict[str, Any]:
    kinds = {
        "user": "BYTES", "item": "INT64", "price": "FP64", "depth": "FP32", "rate": "FP64", "new": "BOOL",
        'odd "name"': "BYTES",
    }  # fmt: skip
    inputs = [
        {
            "name": name,
            "shape": [len(events)],
            "datatype": kind,
            "data": [event.get(name) for event in events],
        }
        for name, kind in kinds.items()
    ]
    tags = [(event.get("tags", []) + [None] * 4)[:4] for event in events]
    inputs.append({"name": "tags", "shape": [len(events), 4], "datatype": "BYTES", "data": tags})
    return {"id": "q1", "inputs": inputs}


def csv_body(events: list[Event]) -> bytes:
    def text(value: Any) -> str:
        if isinstance(value, list):
            return ",".join(value)
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(FIELDS)
    writer.writerows([text(event.get(field)) for field in FIELDS] for event in events)
    return out.getvalue().encode()


def split_body(events: list[Event]) -> dict[str, Any]:
    return {
        "columns": FIELDS,
        "index": [0],
        "data": [[event.get(field) for field in FIELDS] for event in events],
    }


V1, V2 = "/v1/models/ranker", "/v2/models/ranker"


def predictions(answer: Any) -> list[float]:
    scores: list[float] = answer["predictions"]
    return scores


ADAPTERS: dict[str, tuple[str, Callable[[list[Event]], Any], Callable[[Any], list[float]]]] = {
    "score": ("/score", lambda e: {"candidates": e}, lambda a: a["scores"]),
    "regress": (f"{V1}:regress", lambda e: {"examples": e}, lambda a: a["results"]),
    "classify": (f"{V1}:classify", lambda e: {"examples": e}, lambda a: [dict(c)["1"] for c in a["results"]]),
    "predict rows": (f"{V1}:predict", lambda e: {"instances": e}, predictions),
    "predict columns": (
        f"{V1}/versions/5000:predict",
        lambda e: {"inputs": columns_of(e, FIELDS), "signature_name": "serving_default"},
        lambda a: a["outputs"],
    ),
    "kserve": (f"{V2}/infer", kserve_body, lambda a: a["outputs"][0]["data"]),
    "kserve version": (f"{V2}/versions/5000/infer", kserve_body, lambda a: a["outputs"][0]["data"]),
    "mlflow split": ("/invocations", lambda e: {"dataframe_split": split_body(e)}, predictions),
    "mlflow records": ("/invocations", lambda e: {"dataframe_records": e}, predictions),
    "mlflow instances": ("/invocations", lambda e: {"instances": e}, predictions),
    "mlflow inputs": ("/invocations", lambda e: {"inputs": columns_of(e, FIELDS)}, predictions),
    "mlflow input rows": ("/invocations", lambda e: {"inputs": e, "params": {}}, predictions),
    "mlflow csv": ("/invocations", csv_body, predictions),
}  # fmt: skip


def test_every_way_gives_the_same_scores(
    learner: Learner, model: Path, events: list[Event], tmp_path: Path
) -> None:
    """10,000 random events: the learner, `ftrl score`, /score and every protocol agree to 1e-6."""
    lines = lines_of(events)
    margins = [
        learner.margins(part.batch)
        for part in open_codec("jsonl", SCHEMA, BITS, need_label=False).encode(make_block(lines))
    ]
    want = 1.0 / (1.0 + np.exp(-np.concatenate(margins)))
    assert len(want) == EVENTS
    assert want.std() > 0.05, "the model must have learned something"
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    output = tmp_path / "scores.txt"
    flags = ["--model", str(model), "--output", str(output), "--quiet"]
    assert main(["score", str(tmp_path / "events.jsonl"), *flags]) == 0
    assert np.loadtxt(output) == pytest.approx(want, abs=1e-6)

    async def do(client: httpx.AsyncClient) -> None:
        for name, (path, body_of, scores_of) in ADAPTERS.items():
            found: list[float] = []
            for start in range(0, EVENTS, BATCH):
                body = body_of(events[start : start + BATCH])
                how: dict[str, Any] = {"json": body}
                if isinstance(body, bytes):
                    how = {"content": body, "headers": {"content-type": "text/csv; charset=utf-8"}}
                answer = await client.post(path, **how)
                assert answer.status_code == 200, (name, answer.text)
                found += scores_of(answer.json())
            assert found == pytest.approx(want, abs=1e-6), name
        text = (await client.get("/metrics")).text
        assert f"ftrl_candidates_total {float(EVENTS * len(ADAPTERS))}" in text
        assert 'ftrl_requests_total{route="/v2/models/{name}/infer",status="200"} 20.0' in text

    with_client(create_app(model), do)


def ask(model: Path, *requests: tuple[str, str, Any]) -> list[httpx.Response]:
    answers: list[httpx.Response] = []

    async def do(client: httpx.AsyncClient) -> None:
        for method, path, body in requests:
            how = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
            answers.append(await client.request(method, path, **how))

    with_client(create_app(model), do)
    return answers


def test_context_that_all_examples_share(model: Path) -> None:
    context, rows = {"user": "ü1", "item": 7}, [{"price": 2.5}, {"item": 8}, {}]
    want, regress, classify, kserve = ask(
        model,
        ("POST", "/score", {"context": context, "candidates": rows}),
        ("POST", f"{V1}:regress", {"context": context, "examples": rows}),
        ("POST", f"{V1}:classify", {"context": context, "examples": rows}),
        (
            "POST",
            f"{V2}/infer",
            {
                "inputs": [
                    {"name": "user", "shape": [1], "datatype": "BYTES", "data": ["ü1"]},
                    {"name": "item", "shape": [3, 1], "datatype": "INT32", "data": [[7], [8], [7]]},
                    {"name": "price", "shape": [3], "datatype": "FP64", "data": [2.5, None, None]},
                ]
            },
        ),
    )
    scores = want.json()["scores"]
    assert regress.json() == {"results": scores}
    assert classify.json()["results"] == [[["0", 1 - p], ["1", p]] for p in scores]
    answer = kserve.json()
    assert answer["outputs"] == [
        {"name": "score", "shape": [3], "datatype": "FP64", "data": pytest.approx(scores)}
    ]
    assert (answer["model_name"], answer["model_version"]) == ("ranker", want.json()["model"]["version"])
    assert "id" not in answer


def test_tensors_say_what_their_values_are(model: Path) -> None:
    """A whole number in a tensor of decimals is a decimal, and the other way round."""

    def infer(datatype: str, value: Any) -> dict[str, Any]:
        return {"id": "x", "inputs": [{"name": "rate", "shape": [1], "datatype": datatype, "data": [value]}]}

    found = ask(
        model,
        ("POST", "/score", {"candidates": [{"rate": 7.0}, {"rate": 7}]}),
        ("POST", f"{V2}/infer", infer("FP32", 7)),
        ("POST", f"{V2}/infer", infer("INT64", 7.0)),
        ("POST", f"{V2}/infer", infer("BYTES", "7")),
    )
    decimal, whole = found[0].json()["scores"]
    assert decimal != whole
    assert [answer.json()["outputs"][0]["data"] for answer in found[1:]] == [[decimal], [whole], [whole]]
    assert found[1].json()["id"] == "x"


def test_probes_and_metadata(model: Path, tmp_path: Path) -> None:
    paths: dict[str, dict[str, Any]] = {
        "/v2": {"name": "ftrl-engine"},
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        f"{V2}/ready": {"name": "ranker", "ready": True},
        f"{V2}/versions/5000/ready": {"name": "ranker", "ready": True},
        V2: {"name": "ranker", "platform": "ftrl-engine"},
        V1: {
            "model_version_status": [
                {"version": "5000", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            ]
        },
        f"{V1}/metadata": {"model_spec": {"name": "ranker", "signature_name": "", "version": "5000"}},
        f"{V1}/versions/5000": {},
    }
    answers = ask(model, *(("GET", path, None) for path in (*paths, "/ping", "/health", "/version")))
    for (path, facts), answer in zip(paths.items(), answers, strict=False):
        assert answer.status_code == 200, path
        assert answer.json().items() >= facts.items(), path
    assert [answer.status_code for answer in answers[len(paths) :]] == [200] * 3
    metadata = answers[list(paths).index(V2)].json()
    assert {"name": "price", "datatype": "FP64", "shape": [-1]} in metadata["inputs"]
    assert {"name": "user", "datatype": "BYTES", "shape": [-1]} in metadata["inputs"]
    assert "click" not in {tensor["name"] for tensor in metadata["inputs"]}
    inputs = answers[list(paths).index(f"{V1}/metadata")].json()["metadata"]["signature_def"]["signature_def"]
    assert inputs["serving_default"]["inputs"]["price"]["dtype"] == "DT_DOUBLE"
    gone = ask(
        tmp_path / "ranker", *(("GET", path, None) for path in (*paths, "/ping", "/health", "/version"))
    )
    statuses = dict(zip((*paths, "/ping", "/health", "/version"), (a.status_code for a in gone), strict=True))
    alive = {"/v2", "/v2/health/live", "/version"}
    assert statuses == {path: 200 if path in alive else 503 for path in statuses}
    assert all(answer.headers["retry-after"] == "1" for answer in gone if answer.status_code == 503)


def tensor(**changes: Any) -> dict[str, Any]:
    one = {"name": "user", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]} | changes
    return {"inputs": [{key: value for key, value in one.items() if value is not ...}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "what"),
    [
        ("/v1/models/other:predict", {"instances": []}, 404, "'other'"),
        ("/v1/models/ranker/versions/7:predict", {"instances": []}, 404, "'7'"),
        ("/v2/models/other/infer", tensor(), 404, "'ranker'"),
        ("/v2/models/ranker/versions/x/infer", tensor(), 404, "'x'"),
        (f"{V1}:regress", b"{", 400, "truncated"),
        (f"{V1}:regress", b"[" * 9, 400, "object"),
        (f"{V1}:regress", b'{"examples":' + b"[" * 90_000, 400, "deep"),
        (f"{V1}:regress", {}, 400, "examples"),
        (f"{V1}:regress", {"examples": [], "contest": {}}, 400, "contest"),
        (f"{V1}:regress", {"examples": [{}, 3]}, 400, "examples[1]"),
        (f"{V1}:regress", {"examples": [{"depth": "x"}]}, 400, "examples[0]"),
        (f"{V1}:regress", b'{"examples": [{"user": "\xff"}]}', 400, "UTF-8"),
        (f"{V1}:predict", {}, 400, "either"),
        (f"{V1}:predict", {"instances": [], "inputs": {}}, 400, "either"),
        (f"{V1}:predict", {"instances": [1.0, 2.0]}, 400, "instances[0]"),
        (f"{V1}:predict", {"inputs": {"a": [1], "b": [1, 2]}}, 400, "as many"),
        (f"{V1}:predict", {"inputs": [1]}, 400, "inputs"),
        (f"{V1}:predict", {"instances": [{}] * 10_001}, 413, "10001 instances"),
        (f"{V2}/infer", {}, 400, "inputs"),
        (f"{V2}/infer", {"inputs": []}, 400, "at least one"),
        (f"{V2}/infer", tensor(data=...), 400, "data is missing"),
        (f"{V2}/infer", tensor(datatype="STRING"), 400, "'STRING'"),
        (f"{V2}/infer", tensor(data=["a", 1]), 400, "'1' is not of type BYTES"),
        (f"{V2}/infer", tensor(datatype="INT8", data=[1, True]), 400, "'True' is not of type INT8"),
        (f"{V2}/infer", tensor(datatype="UINT8", data=[1, 2.5]), 400, "2.5"),
        (f"{V2}/infer", tensor(datatype="FP64", data=[1, "x"]), 400, "'x'"),
        (f"{V2}/infer", tensor(datatype="FP64", data=[1, 10**400]), 400, "FP64"),
        (f"{V2}/infer", tensor(datatype="BOOL", data=[1, 0]), 400, "BOOL"),
        (f"{V2}/infer", tensor(shape=[3]), 400, "2 values do not fit the shape [3]"),
        (f"{V2}/infer", tensor(shape=[-2]), 400, "shape"),
        (f"{V2}/infer", tensor(shape=[]), 400, "shape"),
        (f"{V2}/infer", tensor(shape=[10**18, 0], data=[]), 400, "shape"),
        (f"{V2}/infer", tensor(shape=[10**400]), 400, "do not fit"),
        (f"{V2}/infer", tensor(data="a"), 400, "array"),
        (f"{V2}/infer", tensor(shape=[1, 1, 2]), 400, "shape"),
        (f"{V2}/infer", tensor(data=[[[["a"]]], "b"]), 400, "deeper"),
        (f"{V2}/infer", {"inputs": tensor()["inputs"] * 2}, 400, "same name"),
        (
            f"{V2}/infer",
            {"inputs": [*tensor()["inputs"], *tensor(name="b", shape=[3], data=["", "", ""])["inputs"]]},
            400,
            "'user' has 2 events where others have 3",
        ),
        (f"{V2}/infer", tensor() | {"outputs": [{"name": "margin"}]}, 400, "'margin'"),
        (
            f"{V2}/infer",
            tensor() | {"outputs": [{"name": "score", "parameters": {"binary_data": True}}]},
            400,
            "binary",
        ),
        ("/invocations", {}, 400, "exactly one"),
        ("/invocations", {"instances": [], "inputs": []}, 400, "exactly one"),
        ("/invocations", [1], 400, "array"),
        ("/invocations", {"dataframe_split": {"columns": ["a"], "data": [[1], [1, 2]]}}, 400, "row 1"),
        ("/invocations", {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, 400, "'a'"),
        ("/invocations", {"dataframe_records": {"a": [1]}}, 400, "rows"),
        ("/invocations", {"inputs": {"a": [1], "b": []}}, 400, "as many"),
        ("/invocations", {"inputs": {"a": 1}}, 400, "array"),
        (
            "/invocations",
            {"dataframe_split": {"columns": ["x" * 2000], "data": [[1]] * 1000}},
            413,
            "1000 rows are 2004000 bytes",
        ),
    ],
)  # fmt: skip
def test_refusals_name_what_is_wrong(model: Path, path: str, body: Any, status: int, what: str) -> None:
    (answer,) = ask(model, ("POST", path, body))
    assert (answer.status_code, set(answer.json())) == (status, {"error"}), answer.text
    assert what in answer.json()["error"]


@pytest.mark.parametrize(
    ("media", "body", "status", "what"),
    [
        ("text/csv", b"", 400, "header"),
        ("text/csv", b"\xff", 400, "UTF-8"),
        ("text/csv", b'a,b\n"x,1\n', 400, "CSV"),
        ("text/csv", b"a,b\n1\n", 400, "row 0 has 1 values for 2 columns"),
        ("text/csv", b"price\ncheap\n", 400, "'cheap'"),
        ("application/xml", b"<a/>", 415, "application/xml"),
    ],
)
def test_frames_as_text(model: Path, media: str, body: bytes, status: int, what: str) -> None:
    answers: list[httpx.Response] = []

    async def do(client: httpx.AsyncClient) -> None:
        headers = {"content-type": media}
        answers.append(await client.post("/invocations", content=body, headers=headers))
        binary = {"inference-header-content-length": "10"}
        answers.append(await client.post(f"{V2}/infer", json=tensor(), headers=binary))

    with_client(create_app(model), do)
    assert (answers[0].status_code, set(answers[0].json())) == (status, {"error"})
    assert what in answers[0].json()["error"]
    assert answers[1].status_code == 400


def test_no_events_have_no_scores(model: Path) -> None:
    found = ask(
        model,
        ("POST", f"{V1}:regress", {"examples": []}),
        ("POST", f"{V1}:predict", {"inputs": {}}),
        ("POST", f"{V2}/infer", tensor(shape=[0], data=[])),
        ("POST", "/invocations", {"dataframe_split": {"columns": ["a"], "data": []}}),
    )
    assert [answer.status_code for answer in found] == [200] * 4
    assert found[0].json() == {"results": []}
    assert found[1].json() == {"outputs": []}
    assert found[2].json()["outputs"][0] == {"name": "score", "shape": [0], "datatype": "FP64", "data": []}
    assert found[3].json() == {"predictions": []}


def test_methods_of_patterns(model: Path) -> None:
    get, post, lost = ask(
        model,
        ("GET", f"{V1}:regress", None),
        ("POST", f"{V2}/ready", {}),
        ("GET", "/v1/models/a/b/c", None),
    )
    assert (get.status_code, get.headers["allow"]) == (405, "POST")
    assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD")
    assert lost.status_code == 404
