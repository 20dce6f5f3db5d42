"""What the scoring server is measured against, each a bare ASGI application on the same uvicorn.

    python -m bench.serving_apps constant|vw|sklearn EVENTS

``constant`` answers every request with the same bytes: what the server and the protocol cost.
``vw`` and ``sklearn`` learn from the file EVENTS first and score as one would by hand: decode the
request with msgspec, join context and candidates, one prediction each. The address is printed.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import msgspec
import uvicorn

from serving.listener import listen

Reply = Callable[[bytes], bytes]
Event = dict[str, Any]
BITS = 22
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def application(reply: Reply) -> Callable[..., Awaitable[None]]:
    """An application that answers the body of any request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = reply(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def constant(events: str) -> Reply:
    """One score, whatever is asked."""
    answer = _encode({"scores": [0.031], "model": {"version": "0-0", "rows": 0, "age_seconds": 0.1}})
    return lambda body: answer


def scoring(score: Callable[[Sequence[Event]], Sequence[float]]) -> Reply:
    """Candidates joined with their context, scored together."""

    def reply(body: bytes) -> bytes:
        request = _decode(body)
        context = request.get("context", {})
        rows = [context | candidate for candidate in request.get("candidates", [{}])]
        return _encode({"scores": list(score(rows))})

    return reply


def vw(events: str) -> Reply:
    """Vowpal Wabbit: text of each row, parsed and predicted."""
    library = importlib.import_module("pylibvw")
    settings = "--ftrl --loss_function logistic --ftrl_alpha 0.1 --ftrl_beta 1 --l1 1 --l2 1 --link logistic"
    workspace = library.vw(["--quiet", "--no_stdin", *settings.split(), "-b", str(BITS)])
    for event in _events(events):
        label = 1 if event.pop("click") else -1
        examples = workspace._parse(f"{label} {_text(event)}")
        workspace.learn(examples[0])
        workspace._finish_example(examples[0])

    def score(rows: Sequence[Event]) -> list[float]:
        found = []
        for row in rows:
            examples = workspace._parse(_text(row))
            workspace.predict(examples[0])
            found.append(float(examples[0].get_simplelabel_prediction()))
            workspace._finish_example(examples[0])
        return found

    return scoring(score)


def _text(row: Event) -> str:
    return " ".join(f"|{name} {value}" for name, value in row.items())


def sklearn(events: str) -> Reply:
    """FeatureHasher and SGDClassifier with L1."""
    hashing = importlib.import_module("sklearn.feature_extraction")
    linear = importlib.import_module("sklearn.linear_model")
    hasher = hashing.FeatureHasher(1 << BITS, input_type="dict")
    rows = list(_events(events))
    labels = [row.pop("click") for row in rows]
    model = linear.SGDClassifier(loss="log_loss", penalty="l1", alpha=1e-6, random_state=0)
    model.partial_fit(hasher.transform(rows), labels, classes=[0, 1])

    def score(rows: Sequence[Event]) -> list[float]:
        probabilities: list[float] = model.predict_proba(hasher.transform(rows))[:, 1].tolist()
        return probabilities

    return scoring(score)


def _events(path: str) -> Iterator[Event]:
    with open(path, "rb") as lines:
        yield from map(_decode, lines)


def main() -> None:
    """Serve one of the applications until a signal."""
    name, events = sys.argv[1:]
    app = application({"constant": constant, "vw": vw, "sklearn": sklearn}[name](events))
    listener = listen("127.0.0.1", 0)
    host, port = listener.getsockname()[:2]
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    config = uvicorn.Config(
        app, loop="auto", http="auto", ws="none", lifespan="off", log_level="error", access_log=False,
        server_header=False, proxy_headers=False,
    )  # fmt: skip
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
