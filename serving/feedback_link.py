"""FeedbackLink: how a request's events come to the feedback stream, in this process or in the server's."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ftrl_engine.errors import SourceUnavailableError
from serving import feedback_messages
from serving.channel import LENGTH_BYTES, MAX_MESSAGE_BYTES
from serving.feedback_stream import MAX_WAITING_BYTES, FeedbackStream, Full, Item, Outcome

# An answer that has not come by then is no longer waited for; the events may be stored all the same.
ANSWER_SECONDS = 30.0


class FeedbackLink(ABC):
    """Takes events from the event loop."""

    @abstractmethod
    async def append(self, items: Sequence[Item]) -> Sequence[int]:
        """Return when the events are durable: the numbers of those that were known already.

        Full where too much waits; SourceUnavailableError where it is not certain that they are stored.
        """


class DirectLink(FeedbackLink):
    """To the stream of this process, whose ``deliver`` is :meth:`deliver`."""

    stream: FeedbackStream

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    async def append(self, items: Sequence[Item]) -> Sequence[int]:
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self.stream.submit(future, items)
        return await _duplicates(future)

    def deliver(self, outcomes: list[tuple[Any, Outcome]]) -> None:
        """Hand outcomes to the event loop, all at once; called by the stream's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
                self._loop.call_soon_threadsafe(_resolve, outcomes)


class WorkerLink(FeedbackLink):
    """From a worker: ``connection`` leads to a :class:`serving.feedback_server.FeedbackServer`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._opening = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._number = 0

    async def append(self, items: Sequence[Item]) -> Sequence[int]:
        writer = self._writer or await self._open()
        if writer.transport.get_write_buffer_size() > MAX_WAITING_BYTES:
            raise Full
        if writer.is_closing():
            raise SourceUnavailableError("the server is about to end")
        self._number += 1
        number = self._number
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        message = feedback_messages.encode_request(number, items)
        writer.write(len(message).to_bytes(LENGTH_BYTES, "little") + message)
        try:
            return await _duplicates(future)
        finally:
            del self._waiting[number]

    async def _open(self) -> asyncio.StreamWriter:
        async with self._opening:
            if self._writer is None:
                reader, self._writer = await asyncio.open_unix_connection(
                    sock=self._connection, limit=MAX_MESSAGE_BYTES
                )
                self._reading = asyncio.create_task(self._read(reader))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                size = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "little")
                for number, outcome in feedback_messages.decode_answers(await reader.readexactly(size)):
                    future = self._waiting.get(number)
                    if future is not None:
                        _resolve([(future, outcome)])
        assert self._writer is not None
        self._writer.close()
        gone = Outcome(error="the server has ended before it answered")
        _resolve([(future, gone) for future in self._waiting.values()])


def _resolve(outcomes: Sequence[tuple[asyncio.Future[Outcome], Outcome]]) -> None:
    for future, outcome in outcomes:
        if not future.done():
            future.set_result(outcome)


async def _duplicates(future: asyncio.Future[Outcome]) -> Sequence[int]:
    try:
        outcome = await asyncio.wait_for(future, ANSWER_SECONDS)
    except TimeoutError:
        outcome = Outcome(error=f"no answer from the stream for {ANSWER_SECONDS:g} s")
    if outcome.full:
        raise Full
    if outcome.error is not None:
        raise SourceUnavailableError(outcome.error)
    return outcome.duplicates
