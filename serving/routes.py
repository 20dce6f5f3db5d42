"""Routes: from the method and the path of a request to what answers it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from serving.http import HttpError, Receive, Response, Scope

Handler = Callable[[Scope, Receive], Awaitable[Response]]
Answer = Callable[[bytes], Response]

OTHER = "other"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_SHOWN = 200


class Route(NamedTuple):
    """One thing the server does.

    path       as it is, or with parts such as ``{name}`` that stand for anything but a slash; what
               they stand for is in ``scope["path_params"]``
    operation  what OpenAPI calls an operation object; see :mod:`serving.openapi`
    at_once    the same as the handler for a body that is there, where nothing has to be waited for;
               what it raises is answered by the handler
    """

    method: str
    path: str
    handler: Handler
    operation: Mapping[str, Any] = _NOTHING
    at_once: Answer | None = None


class Endpoint(NamedTuple):
    """All that one path does; ``path`` is as the route writes it."""

    path: str
    methods: dict[str, Handler]

    def allowed(self) -> list[str]:
        """Its methods; what answers GET answers HEAD."""
        return sorted({*self.methods, "HEAD"} if "GET" in self.methods else self.methods)

    def handler(self, method: str) -> Handler:
        """What answers ``method``; HttpError 405 where nothing does."""
        found = self.methods.get("GET" if method == "HEAD" else method)
        if found is None:
            names = ", ".join(self.allowed())
            raise HttpError(405, f"{self.path} takes {names}, not {method[:20]}", {"allow": names})
        return found


class Router:
    """Finds the endpoint of a path; plain paths first, in ``plain``, then patterns in their order.

    absent  paths that this server could have, and how to get them
    """

    def __init__(self, routes: Iterable[Route], absent: Mapping[str, str] = _NOTHING) -> None:
        self._absent = absent
        self.routes = tuple(Route(*route) for route in routes)
        self.endpoints: dict[str, Endpoint] = {}
        for route in self.routes:
            methods = self.endpoints.setdefault(route.path, Endpoint(route.path, {})).methods
            assert route.method not in methods, f"{route.method} {route.path} has two routes"
            methods[route.method] = route.handler
        self.plain = {path: found for path, found in self.endpoints.items() if "{" not in path}
        self._patterns = [
            (_pattern(path), found) for path, found in self.endpoints.items() if path not in self.plain
        ]

    def find(self, scope: Scope) -> Endpoint:
        """The endpoint of the path; HttpError 404 where there is none."""
        path = scope["path"]
        found = self.plain.get(path)
        if found is not None:
            return found
        for pattern, endpoint in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                scope["path_params"] = match.groupdict()
                return endpoint
        if path in self._absent:
            raise HttpError(404, f"there is no {path!r} here; {self._absent[path]}")
        raise HttpError(404, f"there is no {path[:_SHOWN]!r} here; there are {', '.join(self.plain)}")


def _pattern(path: str) -> re.Pattern[str]:
    """The regular expression of a path with ``{parts}``."""
    pieces = re.split(r"\{(\w+)\}", path)
    return re.compile(
        "".join(f"(?P<{piece}>[^/]+)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
    )
