"""ServeSettings: everything that decides how requests are answered; workers are told it as JSON."""

from __future__ import annotations

import math

import msgspec

from ftrl_engine.errors import ConfigError

DEFAULT_RELOAD_SECONDS = 0.2
DEFAULT_MAX_BODY = 1 << 20
DEFAULT_MAX_CANDIDATES = 10_000
DEFAULT_MAX_FIELDS = 4096
# A client has this long to send its body.
BODY_SECONDS = 10.0
# Requests whose bodies are being read at the same time; each may hold max_body bytes.
DEFAULT_MAX_OPEN = 1000
# name -> (least, most)
_RANGES: dict[str, tuple[float, float]] = {
    "reload_seconds": (0.01, 86400.0),
    "max_body": (2, 1 << 30),
    "max_candidates": (1, 10_000_000),
    "max_fields": (1, 1_000_000),
    "max_open": (1, 1_000_000),
    "body_seconds": (0.01, 86400.0),
    "max_header": (256, 1 << 20),
    "header_seconds": (0.01, 86400.0),
    "max_connections": (1, 1_000_000),
    "drain_seconds": (0.0, 3600.0),
    "workers": (1, 256),
}


class ServeSettings(msgspec.Struct, forbid_unknown_fields=True):
    """The settings of a server; see `ftrl serve --help`.

    max_body, max_candidates  of a request; max_fields of its context and of each candidate
    max_open         requests whose bodies are being read at once, in each worker
    body_seconds     a client has so long to send a body
    max_header, header_seconds  bytes of a request's head, and the time to send it
    max_connections  open connections in each worker
    drain_seconds    how long requests are still answered when the end was asked for
    token            what clients must show; None: nothing
    """

    model: str
    reload_seconds: float = DEFAULT_RELOAD_SECONDS
    max_body: int = DEFAULT_MAX_BODY
    max_candidates: int = DEFAULT_MAX_CANDIDATES
    max_fields: int = DEFAULT_MAX_FIELDS
    max_open: int = DEFAULT_MAX_OPEN
    body_seconds: float = BODY_SECONDS
    max_header: int = 64 << 10
    header_seconds: float = 10.0
    max_connections: int = 10_000
    drain_seconds: float = 0.0
    workers: int = 1
    token: str | None = None
    access_log: bool = False

    def check(self) -> None:
        """ConfigError where a setting breaks its rule."""
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not (least <= value <= most and math.isfinite(value)):
                raise ConfigError(f"{name} must be between {least} and {most}, got {value!r}")
