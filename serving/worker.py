"""One worker of a server: ``python -m serving.worker DESCRIPTOR`` of the socket to the server."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from serving.channel import Channel
from serving.counts import Counts
from serving.shared_memory import map_memory
from serving.worker_messages import Ready, Start, decode, encode

DONE, FAILED = 0, 1


def main(descriptor: int) -> int:
    """Answer requests until the server asks for the end or is gone; returns the exit status."""
    channel = Channel(socket.socket(fileno=descriptor))
    received = channel.receive()
    if received is None:
        return FAILED
    start = decode(received[0])
    assert isinstance(start, Start), "the first message to a worker is Start"
    listener, counts, *feedback = received[1]
    memory = map_memory(counts, os.fstat(counts).st_size)
    os.close(counts)
    with socket.socket(fileno=listener) as shared:
        return _answer(channel, start, shared, Counts(memoryview(memory), start.row), feedback)


def _answer(
    channel: Channel, start: Start, listener: socket.socket, counts: Counts, feedback: list[int]
) -> int:
    from serving.app import App
    from serving.feedback_link import WorkerLink
    from serving.http_server import HttpServer
    from serving.received_store import ReceivedStore
    from serving.scorer import scorer_of
    from serving.server_state import ServerState

    settings, state = start.settings, ServerState(workers=start.settings.workers)
    store = ReceivedStore(Path(settings.model), channel, scorer_of(settings), state, lambda: server.stop())
    link = WorkerLink(socket.socket(fileno=feedback[0])) if feedback else None
    app = App.of(settings, store, counts, state, link)
    server = HttpServer(app, settings, ready=lambda: channel.send(encode(Ready())))
    store.start()
    # One that was started again must not take requests from the others before it has the model.
    store.wait()
    server.answer(listener)
    return DONE if server.started else FAILED


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
