"""GET /openapi.json: it describes every route, and a running server keeps what it promises."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving import create_app
from tests.serving_process import Server, serving
from tests.test_protocols import SCHEMA, ask, learner, model

__all__ = ["learner", "model"]  # fixtures

# Any route may give these; what gives others says so.
EVERYWHERE = {"401", "429", "500"}
TOKEN = "t0ken"
SECONDS = 15 if os.environ.get("CI") else 8
# Tensors and frames have rules that JSON Schema cannot say: as many values as the shape asks for, as
# many in one row as in the next. So valid by the document is not always valid.
RULES_BEYOND_SCHEMA = "/invocations|:predict|/infer"


@pytest.fixture
def document(model: Path) -> dict[str, Any]:
    (answer,) = ask(model, ("GET", "/openapi.json", None))
    found: dict[str, Any] = answer.json()
    return found


def test_every_route_is_described(model: Path, document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    listed = {(method.upper(), path) for path, entry in document["paths"].items() for method in entry}
    routes = {(route.method, route.path) for route in create_app(model)._router.routes}
    assert {pair for pair in listed if pair[0] != "PARAMETERS"} == routes
    assert {("POST", "/score"), ("POST", "/explain"), ("GET", "/openapi.json")} <= routes
    assert document["components"]["securitySchemes"] == {}
    identities = []
    for path, entry in document["paths"].items():
        assert {one["name"] for one in entry.get("parameters", [])} == set(re.findall(r"\{(\w+)\}", path))
        for method, operation in entry.items():
            if method == "parameters":
                continue
            identities.append(operation["operationId"])
            assert operation["summary"]
            assert {"200", *EVERYWHERE} <= set(operation["responses"])
            assert ("requestBody" in operation) == (method == "post")
            assert ("404" in operation["responses"]) == ("{name}" in path or "{file}" in path)
    assert len(set(identities)) == len(identities)


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from references(item)

    found = set(references(document))
    assert found
    for reference in found:
        start, *steps = reference.split("/")
        assert start == "#"
        target = document
        for step in steps:
            target = target[step]


def test_the_served_schema_says_what_fields_hold(document: dict[str, Any], tmp_path: Path) -> None:
    properties = document["components"]["schemas"]["Fields"]["properties"]
    assert set(properties) == {field.name for field in SCHEMA.fields}
    assert {"type": ["number", "null"]} in properties["price"]["anyOf"]
    version = document["paths"]["/v2/models/{name}/versions/{version}"]["parameters"][1]
    assert "5000" in version["schema"]["enum"]
    (answer,) = ask(tmp_path / "none", ("GET", "/openapi.json", None))
    assert answer.status_code == 200, "it can be read before there is a model"
    assert answer.json()["components"]["schemas"]["Fields"]["properties"] == {}


def test_a_token_is_asked_for_where_there_is_one(server: Server) -> None:
    assert httpx.get(server.url + "/openapi.json").status_code == 401
    headers = {"authorization": f"Bearer {TOKEN}"}
    document = httpx.get(server.url + "/openapi.json", headers=headers).json()
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert document["paths"]["/score"]["post"]["security"] == [{"token": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]
    event = document["components"]["schemas"]["LabelledEvent"]
    assert event["properties"]["click"] == {"enum": [0, 1, True, False, "0", "1"]}
    assert event["oneOf"] == [{"required": ["click"]}]


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With everything on: feedback is taken, and a token asked for."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "token").write_text(TOKEN)
    flags = ["--feedback", f"log:{folder / 'log'}", "--token-file", str(folder / "token")]
    with serving(model, *flags) as server:
        yield server


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed")
@pytest.mark.parametrize(
    "which",
    [
        ["--exclude-path-regex", RULES_BEYOND_SCHEMA],
        ["--include-path-regex", RULES_BEYOND_SCHEMA, "--exclude-checks", "positive_data_acceptance"],
    ],
    ids=["all", "beyond"],
)
def test_schemathesis_finds_nothing(server: Server, tmp_path: Path, which: list[str]) -> None:
    # A machine with much else to do gets more time.
    for seconds in (SECONDS, 4 * SECONDS, 16 * SECONDS):
        told = schemathesis(server, tmp_path, seconds, which)
        if sum(map(int, re.findall(r"Tested: (\d+)", told))):
            break
    else:
        pytest.fail(f"nothing was tested: {told}")
    assert httpx.get(server.url + "/readyz").status_code == 200


def schemathesis(server: Server, folder: Path, seconds: int, which: list[str]) -> str:
    """What it says of so many seconds without a finding."""
    # The phase left out walks along links between operations, of which there are none.
    flags = ["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-time", str(seconds)]
    flags += ["--no-color", "--generation-database", "none", "--request-timeout", "60"]
    flags += ["-H", f"Authorization: Bearer {TOKEN}"]
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", *flags, *which],
        capture_output=True,
        text=True,
        timeout=seconds + 120,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    return done.stdout
