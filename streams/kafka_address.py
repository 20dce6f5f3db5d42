"""``kafka://HOST:PORT[,HOST:PORT]/TOPIC?OPTIONS``: where events are read from or written to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from ftrl_engine.errors import ConfigError

DEFAULT_PORT = 9092
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_FORM = "write kafka://HOST:PORT/TOPIC, for example kafka://localhost:9092/clicks"


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """The brokers to ask first, the topic, and the options of the query part.

    ``servers`` is empty for ``kafka:///TOPIC``: then ``bootstrap.servers`` of the properties says.
    """

    servers: tuple[str, ...]
    topic: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """The address without options: what messages show."""
        return f"kafka://{','.join(self.servers)}/{self.topic}"


def parse_address(uri: str) -> KafkaAddress:
    """The parts of ``uri``. No error repeats what could be a secret in it."""
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        raise ConfigError(
            "a kafka:// address holds no user name or password; put sasl.username and sasl.password into a "
            "file and name it with --kafka FILE.properties, or set FTRL_KAFKA_SASL_PASSWORD"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if re.search("password|secret|token|jaas|username|credential", name, re.IGNORECASE):
            raise ConfigError(
                f"{name!r} does not belong into a kafka:// address, which is logged and shown; "
                "use --kafka FILE.properties or the environment"
            )
    shown = f"kafka://{parts.netloc}{parts.path}"
    topic = parts.path.removeprefix("/")
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise ConfigError(f"{shown}: {topic!r} is not the name of a topic; {_FORM}")
    if parts.fragment:
        raise ConfigError(f"{shown}: nothing may follow '#'; {_FORM}")
    servers = tuple(_server(shown, text) for text in parts.netloc.split(",")) if parts.netloc else ()
    return KafkaAddress(servers, topic, options)


def _server(shown: str, text: str) -> str:
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match[2] or DEFAULT_PORT) < 65536:
        raise ConfigError(f"{shown}: {text!r} is not HOST:PORT; {_FORM}")
    return f"{match[1]}:{match[2] or DEFAULT_PORT}"
