"""AccessToken: what clients must show in the header Authorization."""

from __future__ import annotations

import hmac
import re
from pathlib import Path

from ftrl_engine.errors import ConfigError
from serving.http import Headers, HttpError

# Probes carry no secrets, and the page none before it has asked for the token, so these paths are open.
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready"})
OPEN_FOLDER = "/static/"
MAX_BYTES = 4096
# RFC 6750, b64token.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_ASK = {"www-authenticate": 'Bearer realm="ftrl"'}


def is_open(path: str) -> bool:
    """Whether a path asks for no token."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


class AccessToken:
    """Lets requests through that show ``token`` (RFC 6750); it never leaves this object."""

    def __init__(self, token: str) -> None:
        self._expected = b"Bearer " + token.encode()

    def check(self, path: str, headers: Headers) -> None:
        """HttpError 401 where a request does not show the token and its path asks for it."""
        if is_open(path):
            return
        for name, value in headers:
            if name == b"authorization":
                # The time this takes does not tell how much of the token was right.
                if hmac.compare_digest(value[:7].title() + value[7:], self._expected):
                    return
                raise HttpError(401, "the token is not the right one", _ASK)
        raise HttpError(401, "a token is needed: send the header Authorization: Bearer TOKEN", _ASK)


def read_token(file: str | None, environment: str | None) -> str | None:
    """The token in ``file``, else the one of the environment; None where there is neither.

    ConfigError, which never shows what was read, where it is no token.
    """
    if file is None:
        return None if environment is None else _checked(environment, "FTRL_TOKEN")
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"--token-file {file}: cannot be read: {error.strerror}") from error
    return _checked(data.decode("ascii", "replace"), f"--token-file {file}")


def _checked(text: str, where: str) -> str:
    token = text.strip()
    if len(token) > MAX_BYTES or _TOKEN.fullmatch(token) is None:
        raise ConfigError(
            f"{where}: a token has 1 to {MAX_BYTES} letters, digits or -._~+/ on one line, = at its end; "
            "make one with: openssl rand -hex 32"
        )
    return token
