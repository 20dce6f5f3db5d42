"""The records of one parquet file, as lines of CSV; a position is a row number."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError, SourceError
from streams.file_names import FileName
from streams.lines import REFUSED_BYTES, refuse_long
from streams.marks import Mark, mark_of_end
from streams.source import MAX_RECORD_BYTES, PADDING, Block

_MAX_ROWS = 65_536
_PAGE_BYTES = 1 << 20
_QUOTE, _NEWLINE = 34, 10
# pandas writes an index that has no name under such a name; it is no column of the frame.
_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


class ParquetFile:
    """Blocks of the rows of ``file`` from row ``position`` on.

    Values become the text that pyarrow writes into CSV; a list becomes its values with commas
    between them, a missing value an empty column. Raises SourceError where the file cannot
    be read or has fewer rows than ``position``, ConfigError where a column has no text form.
    """

    ended = True  # whenever read() gives None
    busy = False
    pipe = False
    damage = None

    def __init__(
        self,
        file: FileName,
        position: int,
        block_bytes: int,
        limit: int = MAX_RECORD_BYTES,
        mark: Mark | None = None,
    ) -> None:
        parquet = import_parquet()
        self._path, self._partition = file.path, file.partition
        self.position = position
        self._limit = limit
        if mark is not None and mark != mark_of_end(file.path):
            raise self._replaced(f"position {position} is of another file than this one")
        with self._named_errors():
            # Row groups are read a page at a time and not held as a whole.
            self._file = parquet.ParquetFile(file.path, buffer_size=_PAGE_BYTES, pre_buffer=False)
        try:
            self._columns = [
                name for name in self._file.schema_arrow.names if not _UNNAMED_INDEX.fullmatch(name)
            ]
            self._check_columns()
            self._header = _csv_line(self._columns)
            self._batches = self._open(position, block_bytes)
        except Exception:
            self.close()
            raise

    @property
    def consumed(self) -> int:
        """About how many bytes of the file were read."""
        rows: int = self._file.metadata.num_rows
        return os.path.getsize(self._path) * self.position // max(1, rows)

    def read(self) -> Block | None:
        """The next block, None at the end."""
        with self._named_errors():
            batch = next(self._batches, None)
            if batch is None:
                return None
            data, ends = _csv_text(batch, self._columns)
        first, self.position = self.position, self.position + len(ends)
        starts = np.concatenate(([0], ends[:-1] + 1))
        block = Block(
            self._partition, data, starts, ends, first + 1 + np.arange(len(ends), dtype=np.int64),
            first, self.position, self._header,
        )  # fmt: skip
        return _refuse_long_rows(block, self._limit)

    def settle(self) -> bool:
        """A parquet file never grows."""
        return False

    def finish(self) -> None:
        """Nothing is left at the end."""

    def close(self) -> None:
        self._file.close()

    def _open(self, position: int, block_bytes: int) -> Iterator[Any]:
        """The batches from row ``position`` on."""
        meta = self._file.metadata
        if position > meta.num_rows:
            raise self._replaced(f"position {position} is beyond its end, {meta.num_rows} rows")
        groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
        size = sum(group.total_byte_size for group in groups) // max(1, meta.num_rows)
        rows = min(_MAX_ROWS, max(1, block_bytes // max(1, size)))
        first = 0
        while first < len(groups) and position >= groups[first].num_rows:
            position -= groups[first].num_rows
            first += 1
        return self._rows_from(list(range(first, len(groups))), position, rows)

    def _replaced(self, problem: str) -> SourceError:
        return SourceError(
            f"{self._path}: {problem}; the file was "
            "replaced: learn into a new model directory, or give the new file another name"
        )

    def _rows_from(self, groups: list[int], dropped: int, rows: int) -> Iterator[Any]:
        if not groups:
            return
        for batch in self._file.iter_batches(rows, row_groups=groups, columns=self._columns):
            kept = batch.slice(dropped)
            dropped -= min(dropped, len(batch))
            if len(kept):
                yield kept

    def _check_columns(self) -> None:
        import pyarrow as pa

        for name in self._columns:
            kind = self._file.schema_arrow.field(name).type
            inner = kind.value_type if _is_list(kind) else kind
            if pa.types.is_nested(inner):
                raise ConfigError(f"{self._path}: column {name!r} is {kind}, which has no text; leave it out")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{self._path}: cannot be read as parquet: {error}") from error


def import_parquet() -> Any:
    """``pyarrow.parquet``; ConfigError where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"parquet needs pyarrow ({error}): pip install 'ftrl-engine[parquet]'") from error
    return pyarrow.parquet


def _csv_line(columns: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(columns)
    return text.getvalue().encode()


def _csv_text(batch: Any, columns: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The rows of ``batch`` as CSV, PADDING bytes after them, and int64[rows], where each ends."""
    import pyarrow as pa

    table = pa.table([_text_column(column) for column in batch.columns], names=columns)
    try:
        data = _write_csv(table, "none")
        newlines = np.flatnonzero(data[:-PADDING] == _NEWLINE)
    except pa.ArrowInvalid:
        # Some value holds a comma, a quote or a line break: texts are quoted, and a line break
        # with an odd number of quotes before it is part of a value.
        data = _write_csv(table, "needed")
        newlines = np.flatnonzero(data[:-PADDING] == _NEWLINE)
        quotes = np.flatnonzero(data[:-PADDING] == _QUOTE)
        newlines = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
    return data, newlines.astype(np.int64, copy=False)


def _write_csv(table: Any, quoting: str) -> NDArray[np.uint8]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    sink = pa.BufferOutputStream()
    arrow_csv.write_csv(table, sink, arrow_csv.WriteOptions(include_header=False, quoting_style=quoting))
    sink.write(bytes(PADDING))
    return np.require(np.frombuffer(sink.getvalue(), np.uint8), requirements=["C", "W"])


def _text_column(column: Any) -> Any:
    """``column`` in a type that pyarrow writes into CSV."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if _is_list(kind):
        return _joined(column.cast(pa.list_(pa.string())))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        # Bytes that are no text are refused row by row by the codec.
        return pc.cast(column, options=pc.CastOptions(pa.string(), allow_invalid_utf8=True))
    if kind in (pa.string_view(), pa.binary_view()):
        return column.cast(pa.large_binary()).cast(pa.large_string())
    return column


def _joined(lists: Any) -> Any:
    """list<string> as text with commas; a missing value in a list is an empty text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if lists.values.null_count:
        values = pc.fill_null(lists.values, "")
        # A copy of the offsets: those of a slice cannot be combined with a mask.
        lists = pa.ListArray.from_arrays(
            pa.array(lists.offsets.to_numpy()),
            values,
            mask=pa.array(lists.is_null().to_numpy(zero_copy_only=False)),
        )
    return pc.binary_join(lists, ",")


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _refuse_long_rows(block: Block, limit: int) -> Block:
    long = block.ends - block.starts > limit
    if not long.any():
        return block
    refused = tuple(
        refuse_long(block.partition, block.first + row, block.record(row)[: min(limit, REFUSED_BYTES)], limit)
        for row in np.flatnonzero(long).tolist()
    )
    return replace(
        block,
        starts=block.starts[~long],
        ends=block.ends[~long],
        positions=block.positions[~long],
        refused=refused,
    )
