"""The socket a server listens on."""

from __future__ import annotations

import ipaddress
import os
import socket

from ftrl_engine.errors import FtrlError

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; FtrlError says why there is none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise FtrlError(f"cannot listen on {host!r}: {error.strerror}; give an address as --host") from error
    try:
        if os.name != "nt":
            # On Windows the option would let two servers share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise FtrlError(
            f"cannot listen on {host} port {port}: {error.strerror}; stop what uses it or give another "
            "--port (0 picks a free one)"
        ) from error
    return listener


def is_local(listener: socket.socket) -> bool:
    """Whether only programs on this machine can reach the socket."""
    try:
        return ipaddress.ip_address(listener.getsockname()[0]).is_loopback
    except ValueError:
        return False
