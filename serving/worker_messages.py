"""What a server and its workers tell each other, as JSON over a :class:`serving.channel.Channel`."""

from __future__ import annotations

import msgspec

from serving.server_state import ServerState
from serving.settings import ServeSettings


class Start(msgspec.Struct, tag=True):
    """The first message to a worker; with it come the descriptors of the listener, of the counts, and
    of the socket for feedback if there is one.

    row  of the counts, which belongs to this worker
    """

    settings: ServeSettings
    row: int


class Model(msgspec.Struct, tag=True):
    """A model to serve; with it comes the descriptor of its memory, ``size`` bytes."""

    size: int
    path: str
    version: str
    identity: tuple[str, int, int, int]


class State(msgspec.Struct, tag=True):
    """What the server says of itself, and of its store."""

    server: ServerState
    looked: bool
    error: str | None
    loads: int
    failures: int


class Ready(msgspec.Struct, tag=True):
    """From a worker: requests are answered."""


class Taken(msgspec.Struct, tag=True):
    """From a worker: it is done with the last model, whether it serves it or refuses it."""


Message = Start | Model | State | Ready | Taken
_decoder = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    """The message as bytes."""
    return msgspec.json.encode(message)


def decode(data: bytes) -> Message:
    """The inverse of :func:`encode`."""
    message: Message = _decoder.decode(data)
    return message
