"""Counts: what the workers of one server count together."""

from __future__ import annotations

from ftrl_engine.errors import ConfigError

CELLS = 2048
ITEM_BYTES = 8


class Counts:
    """Rows of CELLS float64 cells, one row for each worker.

    memory  of ``rows * CELLS * ITEM_BYTES`` bytes, shared by all workers; None: this process counts alone
    row     the row of this worker, which nobody else writes

    Every cell has one writer and an aligned store of eight bytes is never half done, so nothing is
    locked and nothing is lost: the sum over the rows is the truth whoever takes it, and a worker
    that is started again goes on in the row of the one that died.
    """

    def __init__(self, memory: memoryview | None = None, row: int = 0) -> None:
        whole = memoryview(bytearray(CELLS * ITEM_BYTES)) if memory is None else memory
        if whole.nbytes % (CELLS * ITEM_BYTES) or not 0 <= row < whole.nbytes // (CELLS * ITEM_BYTES):
            raise ConfigError(f"row must be one of {whole.nbytes / (CELLS * ITEM_BYTES):g} rows, got {row}")
        self._cells = whole.cast("B").cast("d")
        self.mine = self._cells[row * CELLS : (row + 1) * CELLS]

    @staticmethod
    def size(rows: int) -> int:
        """Bytes of the memory for so many workers."""
        return rows * CELLS * ITEM_BYTES

    def total(self, cell: int) -> float:
        """The sum of one cell over all workers."""
        return sum(self._cells[cell::CELLS].tolist())

    def totals(self, first: int, count: int) -> list[float]:
        """The sums of ``count`` cells from ``first`` on."""
        return [self.total(cell) for cell in range(first, first + count)]
