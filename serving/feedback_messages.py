"""What a worker and its server tell each other about feedback, over a :class:`serving.channel.Channel`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from serving.feedback_stream import Item, Outcome

_encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(tuple[int, list[tuple[bytes | None, bytes]]]).decode
_decode_answers = msgspec.msgpack.Decoder(list[tuple[int, list[int], str | None, bool]]).decode


def encode_request(number: int, items: Sequence[Item]) -> bytes:
    """Events that wait for an answer with this number."""
    return _encode((number, items))


def decode_request(message: bytes) -> tuple[int, list[Item]]:
    """The inverse of :func:`encode_request`."""
    request: tuple[int, list[Item]] = _decode_request(message)
    return request


def encode_answers(answers: Sequence[tuple[int, Outcome]]) -> bytes:
    """Outcomes with the numbers of their requests."""
    return _encode([(number, outcome.duplicates, outcome.error, outcome.full) for number, outcome in answers])


def decode_answers(message: bytes) -> list[tuple[int, Outcome]]:
    """The inverse of :func:`encode_answers`."""
    return [
        (number, Outcome(duplicates, error, full))
        for number, duplicates, error, full in _decode_answers(message)
    ]
