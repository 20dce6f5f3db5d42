"""The content of a zstd file (RFC 8878)."""

from __future__ import annotations

from io import FileIO
from typing import Any

import zstandard

from ftrl_engine.errors import SourceError
from streams.decoder import Decoder

_PIECE = 256 << 10  # compressed bytes a read, more than a block
# What `zstd --long` needs; more would be the writer's to decide.
_MAX_WINDOW = 1 << 27
_SKIPPABLE = 0x184D2A50  # to ...5F


class Zstd(Decoder):
    """One or more zstd frames, a frame header or a block a step.

    A block gives at most 128 KiB, and an error drops only what can never be decoded.
    """

    kind = "zstd"

    def __init__(self, raw: FileIO, head: bytes, name: str) -> None:
        super().__init__(raw, head, name)
        self._at = 0  # the next byte of the input
        self._context = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._frame: Any = None  # the decoder of the open frame
        self._last = False  # its last block is behind; a checksum of 4 bytes may follow
        self._skipped = 0  # bytes of a skippable frame still to come
        self._output = memoryview(b"")

    @property
    def unfinished(self) -> bool:
        return self._frame is not None or self._skipped > 0 or self._at < len(self._input)

    def readinto(self, view: memoryview) -> int:
        while not self._output:
            if self.damage is not None or not self._step():
                return 0
        size = min(len(view), len(self._output))
        view[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

    def _peek(self, size: int) -> memoryview:
        """The next ``size`` bytes of the input, or as many as are there."""
        while len(self._input) - self._at < size:
            piece = self._read(_PIECE)
            if not piece:
                break
            self._input, self._at = self._input[self._at :] + piece, 0
        return memoryview(self._input)[self._at : self._at + size]

    def _step(self) -> bool:
        """Go on by one part of a frame; False while it is not there as a whole, and at damage."""
        try:
            if self._skipped:
                return self._skip()
            return self._begin_frame() if self._frame is None else self._decompress()
        except zstandard.ZstdError as error:
            self._corrupt(error)
            return False

    def _skip(self) -> bool:
        size = min(self._skipped, len(self._peek(1)) and len(self._input) - self._at)
        self._at += size
        self._skipped -= size
        return size > 0

    def _decompress(self) -> bool:
        size = 4 if self._last else self._block_size()
        part = self._peek(size)
        if not size or len(part) < size:
            return False
        self._output = memoryview(self._frame.decompress(part))
        self._at += size
        self._last = bool(part[0] & 1)
        if self._frame.eof:
            self._frame = None
        return True

    def _block_size(self) -> int:
        """The bytes of the next block, its header of 3 bytes included; 0 while that is not there."""
        header = self._peek(3)
        if len(header) < 3:
            return 0
        bits = int.from_bytes(header, "little")
        repeats_one_byte = (bits >> 1) & 3 == 1
        return 3 + (1 if repeats_one_byte else bits >> 3)

    def _begin_frame(self) -> bool:
        head = self._peek(4)
        if len(head) < 4:
            return False
        if int.from_bytes(head, "little") & ~0xF == _SKIPPABLE:
            return self._begin_skippable()
        if head != zstandard.FRAME_HEADER:
            self._corrupt("what follows a frame is not a frame")
            return False
        start = self._peek(5)
        size = zstandard.frame_header_size(start) if len(start) == 5 else 5
        header = self._peek(size)
        if len(start) < 5 or len(header) < size:
            return False
        self._check(zstandard.get_frame_parameters(header))
        self._frame, self._last = self._context.decompressobj(), False
        self._frame.decompress(header)
        self._at += size
        return True

    def _begin_skippable(self) -> bool:
        head = self._peek(8)
        if len(head) == 8:
            self._skipped = int.from_bytes(head[4:], "little")
            self._at += 8
        return len(head) == 8

    def _check(self, frame: zstandard.FrameParameters) -> None:
        if frame.dict_id:
            raise SourceError(f"{self._name}: needs zstd dictionary {frame.dict_id}; compress it without one")
        if frame.window_size > _MAX_WINDOW:
            raise SourceError(
                f"{self._name}: needs a zstd window of {frame.window_size} bytes, over the limit of "
                f"{_MAX_WINDOW}; compress it with --long=27 or less"
            )
