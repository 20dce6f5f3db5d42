"""What a ``.properties`` file or the environment says about a Kafka connection.

The names are Kafka's own, as the Java tools and librdkafka write them. No message and no
``repr`` of this module shows a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftrl_engine.errors import ConfigError

ENVIRONMENT = "FTRL_KAFKA_"
MAX_FILE_BYTES = 1 << 20

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
COMPRESSION = ("none", "gzip", "snappy", "lz4", "zstd")
# Other spellings of the same property: the Java tools', then older librdkafka's.
_ALIASES = {
    "sasl.mechanisms": "sasl.mechanism",
    "ssl.truststore.location": "ssl.ca.location",
    "ssl.keystore.location": "ssl.certificate.location",
    "ssl.keystore.password": "ssl.key.password",
}
_TEXT = (
    "bootstrap.servers",
    "client.id",
    "client.rack",
    "group.id",
    "sasl.username",
    "sasl.password",
    "sasl.jaas.config",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
)
_CHOICES = {
    "security.protocol": PROTOCOLS,
    "sasl.mechanism": MECHANISMS,
    "compression.type": COMPRESSION,
    "ssl.endpoint.identification.algorithm": ("", "none", "https"),
    "ssl.truststore.type": ("PEM",),
    "ssl.keystore.type": ("PEM",),
}
_NUMBERS = {
    "fetch.max.bytes": (1 << 10, 1 << 30),
    "max.partition.fetch.bytes": (1 << 10, 1 << 30),
    "linger.ms": (0, 60_000),
    "batch.size": (1, 1 << 30),
    "max.request.size": (1 << 10, 1 << 30),
}
KNOWN = (*_TEXT, *_CHOICES, *_NUMBERS)
_SECRET = ("sasl.password", "sasl.jaas.config", "ssl.key.password")
_JAAS = re.compile(r'(username|password)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')


class KafkaProperties:
    """Checked properties: one mapping for both clients."""

    def __init__(self, given: Mapping[str, str]) -> None:
        values: dict[str, str] = {}
        for name, value in given.items():
            key = _ALIASES.get(name, name)
            if key not in KNOWN:
                raise ConfigError(
                    f"Kafka property {name!r} is not known; known are {', '.join(sorted(KNOWN))}"
                )
            values[key] = _checked(key, value)
        self._values = values
        self._log_in()

    def __repr__(self) -> str:
        return f"KafkaProperties({', '.join(sorted(self._values))})"

    def get(self, name: str) -> str | None:
        """The text of a property, if it was given."""
        return self._values.get(name)

    def number(self, name: str, default: int) -> int:
        """A number that was given, or ``default``."""
        return int(self._values.get(name, default))

    def hide(self, text: str) -> str:
        """``text`` with every secret value in it replaced."""
        for name in _SECRET:
            value = self._values.get(name)
            if value:
                text = text.replace(value, "********")
        return text

    def for_kafka_python(self) -> dict[str, Any]:
        """The connection settings by kafka-python's names."""
        names = {
            "security.protocol": "security_protocol",
            "sasl.mechanism": "sasl_mechanism",
            "sasl.username": "sasl_plain_username",
            "sasl.password": "sasl_plain_password",
            "ssl.ca.location": "ssl_cafile",
            "ssl.certificate.location": "ssl_certfile",
            "ssl.key.location": "ssl_keyfile",
            "ssl.key.password": "ssl_password",
            "client.id": "client_id",
        }
        settings: dict[str, Any] = {
            theirs: self._values[ours] for ours, theirs in names.items() if ours in self._values
        }
        settings["ssl_check_hostname"] = self._check_hostname()
        settings.setdefault("client_id", "ftrl-engine")
        return settings

    def for_librdkafka(self) -> dict[str, Any]:
        """The connection settings by librdkafka's names."""
        same = (
            "security.protocol",
            "sasl.mechanism",
            "sasl.username",
            "sasl.password",
            "ssl.ca.location",
            "ssl.certificate.location",
            "ssl.key.location",
            "ssl.key.password",
            "client.id",
        )
        settings: dict[str, Any] = {name: self._values[name] for name in same if name in self._values}
        settings["ssl.endpoint.identification.algorithm"] = "https" if self._check_hostname() else "none"
        settings.setdefault("client.id", "ftrl-engine")
        return settings

    def _check_hostname(self) -> bool:
        return self._values.get("ssl.endpoint.identification.algorithm", "https") == "https"

    def _log_in(self) -> None:
        """Take the name and password out of a JAAS line; check that a login is complete."""
        values = self._values
        jaas = values.get("sasl.jaas.config")
        if jaas is not None:
            found = {
                m[1]: m[2].replace('\\"', '"') if m[2] is not None else m[3] for m in _JAAS.finditer(jaas)
            }
            for part in ("username", "password"):
                if part not in found:
                    raise ConfigError(
                        f'sasl.jaas.config names no {part}; write ... required {part}="..." ...;'
                    )
                values.setdefault(f"sasl.{part}", found[part])
        protocol = values.get("security.protocol", "PLAINTEXT")
        if protocol.startswith("SASL"):
            values.setdefault("sasl.mechanism", "PLAIN")
            for name in ("sasl.username", "sasl.password"):
                if name not in values:
                    raise ConfigError(f"security.protocol {protocol} needs {name}")
        elif "sasl.username" in values or "sasl.password" in values:
            raise ConfigError(
                "sasl.username and sasl.password need security.protocol SASL_SSL or SASL_PLAINTEXT, "
                f"not {protocol}"
            )


def read_properties(path: Path) -> dict[str, str]:
    """The properties of a file: ``name=value`` lines, ``#`` comments, ``\\`` at the end continues a line."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: a properties file has at most {MAX_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(re.sub(r"\\\r?\n[ \t]*", "", text).splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#!":
            continue
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*[=:]\s*(.*)", stripped)
        if match is None:
            raise ConfigError(f"{path}: entry {number} is not NAME=VALUE")
        found[match[1]] = match[2]
    return found


def environment_properties(environment: Mapping[str, str]) -> dict[str, str]:
    """``FTRL_KAFKA_SASL_PASSWORD`` is ``sasl.password``, and so on."""
    return {
        name.removeprefix(ENVIRONMENT).lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT)
    }


def _checked(name: str, value: str) -> str:
    if name in _CHOICES:
        allowed = _CHOICES[name]
        form = value.lower() if name.startswith(("compression", "ssl.endpoint")) else value.upper()
        if form not in allowed:
            raise ConfigError(
                f"Kafka property {name} must be one of {', '.join(filter(None, allowed))}, got {value!r}"
            )
        return form
    if name in _NUMBERS:
        low, high = _NUMBERS[name]
        if not value.isdecimal() or not low <= int(value) <= high:
            raise ConfigError(f"Kafka property {name} must be a number from {low} to {high}, got {value!r}")
    return value
