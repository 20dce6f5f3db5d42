"""Channel: messages, and descriptors with them, between a server and one of its workers."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress

from ftrl_engine.errors import FtrlError

MAX_MESSAGE_BYTES = 1 << 30
MAX_DESCRIPTORS = 8
LENGTH_BYTES = 8


class Channel:
    """Whole messages over a connected stream socket of this machine; any thread may send, one receives.

    seconds  how long the other side may take to read a message; after that it counts as gone
    """

    def __init__(self, connection: socket.socket, seconds: float = 10.0) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        if os.name != "nt":
            # Only sending ends: a receiver waits for as long as there is nothing to say.
            timeout = _timeval(seconds)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Hand over a message and copies of descriptors; OSError where nobody reads."""
        length = len(message).to_bytes(LENGTH_BYTES, "little")
        with self._sending:
            # The descriptors travel with the first byte; eight bytes are always taken at once.
            socket.send_fds(self._connection, [length], descriptors)
            self._connection.sendall(message)

    def receive(self) -> tuple[bytes, list[int]] | None:
        """The next message and its descriptors, which are the caller's then; None without another side."""
        try:
            head, descriptors, _, _ = socket.recv_fds(self._connection, LENGTH_BYTES, MAX_DESCRIPTORS)
            head += self._exactly(LENGTH_BYTES - len(head)) if head else b""
            size = int.from_bytes(head, "little")
            if size > MAX_MESSAGE_BYTES:
                raise FtrlError(f"a message of {size} bytes is larger than {MAX_MESSAGE_BYTES}")
            return (self._exactly(size), list(descriptors)) if head else None
        except (OSError, EOFError):
            return None

    def close(self) -> None:
        """The other side's next :meth:`receive` returns None, and so does one that waits on this side."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _exactly(self, size: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < size:
            piece = self._connection.recv(min(size - len(pieces), 1 << 20))
            if not piece:
                raise EOFError
            pieces += piece
        return bytes(pieces)


def _timeval(seconds: float) -> bytes:
    """A struct timeval of this machine."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
