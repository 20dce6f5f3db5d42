"""GET /: a page that shows what the server and its model do; its files lie in ``static``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from serving.http import HttpError, Receive, Response, Scope
from serving.operations import operation
from serving.routes import Route
from serving.service import Service

FOLDER = Path(__file__).parent / "static"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# Only what this server sends may run, be shown or be connected to.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Kept, but asked for again every time: a page never mixes the files of two versions.
    "cache-control": "no-cache",
}


class StaticFile(NamedTuple):
    """One file as it is sent."""

    body: bytes
    content_type: str
    etag: str

    def answer(self, scope: Scope) -> Response:
        """The file; 304 to a client that has it."""
        headers = _HEADERS | {"etag": self.etag}
        for name, value in scope["headers"]:
            if name == b"if-none-match" and self.etag in value.decode("latin-1"):
                return Response(b"", 304, self.content_type, headers)
        return Response(self.body, 200, self.content_type, headers)


def load_files(folder: Path = FOLDER) -> dict[str, StaticFile]:
    """All files of the folder, by name."""
    found = {}
    for path in sorted(folder.iterdir()):
        body = path.read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        found[path.name] = StaticFile(body, TYPES[path.suffix], etag)
    return found


def routes(service: Service) -> list[Route]:
    files = load_files()

    async def index(scope: Scope, receive: Receive) -> Response:
        return files[INDEX].answer(scope)

    async def static(scope: Scope, receive: Receive) -> Response:
        name = scope["path_params"]["file"]
        if name not in files:
            raise HttpError(404, f"there is no file {name[:100]!r}; there are {', '.join(files)}")
        return files[name].answer(scope)

    kinds = [kind.partition(";")[0] for kind in TYPES.values()]
    return [
        Route("GET", "/", index, _describe("The page that shows what the server does", ["text/html"])),
        Route("GET", "/static/{file}", static, _describe("A file of the page", kinds, 404)),
    ]


def _describe(summary: str, media: list[str], *errors: int) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    found = operation(summary, {"type": "string"}, media=media[0], errors=errors)
    found["responses"]["200"]["content"] = dict.fromkeys(media, text)
    found["responses"]["304"] = {"description": "The client has it already"}
    return found
