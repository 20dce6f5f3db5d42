"""FeedbackServer: brings the workers' events to the one feedback stream, and its answers back."""

from __future__ import annotations

import socket
import threading
from collections import defaultdict
from typing import Any

from serving.channel import Channel
from serving.feedback_messages import decode_request, encode_answers
from serving.feedback_stream import FeedbackStream, Full, Outcome

# A worker that does not read its answers for so long counts as gone; the others wait for it meanwhile.
_SEND_SECONDS = 1.0


class FeedbackServer:
    """Serves every worker's connection in a thread of its own; :meth:`deliver` is what the stream calls."""

    stream: FeedbackStream

    def connect(self) -> socket.socket:
        """A connection for one worker, which belongs to the caller."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        channel = Channel(ours, _SEND_SECONDS)
        threading.Thread(target=self._serve, args=[channel], name="ftrl-feedback-link", daemon=True).start()
        return theirs

    def deliver(self, outcomes: list[tuple[Any, Outcome]]) -> None:
        """Answer the workers, each with one message."""
        answers: defaultdict[Channel, list[tuple[int, Outcome]]] = defaultdict(list)
        for (channel, number), outcome in outcomes:
            answers[channel].append((number, outcome))
        for channel, found in answers.items():
            try:
                channel.send(encode_answers(found))
            except OSError:
                channel.close()

    def _serve(self, channel: Channel) -> None:
        while (received := channel.receive()) is not None:
            number, items = decode_request(received[0])
            try:
                self.stream.submit((channel, number), items)
            except Full:
                self.deliver([((channel, number), Outcome(full=True))])
        channel.close()
