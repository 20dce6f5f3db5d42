"""Simulated click events in a parquet file, with the columns and values of their CSV text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ftrl_engine.errors import SourceError
from streams.click_events import COLUMNS
from streams.click_text import TRUTH
from streams.parquet import import_parquet
from streams.sink import Sink

_GROUP_BYTES = 8 << 20  # of text in a row group
_NUMBERS = {
    "click": "int8", "timestamp": "float64", "hour": "int8", "position": "int8", "price": "float64",
    TRUTH: "float64",
}  # fmt: skip


class ParquetSink(Sink):
    """Takes CSV lines without a header; the file can be read when it is closed.

    Raises ConfigError where pyarrow is missing, SourceError where the file cannot be written.
    """

    def __init__(self, uri: str, with_truth: bool) -> None:
        parquet = import_parquet()
        import pyarrow as pa

        if not Path(uri).absolute().parent.is_dir():
            raise SourceError(f"{uri}: there is no directory {Path(uri).parent}; make it first")
        self.uri = uri
        names = (*COLUMNS, TRUTH) if with_truth else COLUMNS
        self._schema = pa.schema([(name, _NUMBERS.get(name, "string")) for name in names])
        self._held = bytearray()
        try:
            self._file: Any = parquet.ParquetWriter(uri, self._schema, compression="zstd")
        except OSError as error:
            raise self._error(error) from error

    def append(self, lines: bytes) -> None:
        self._held += lines
        if len(self._held) >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was taken as a row group; it is in the file when that is closed."""
        if not self._held:
            return
        from pyarrow import BufferReader, csv

        table = csv.read_csv(
            BufferReader(bytes(self._held)),
            csv.ReadOptions(column_names=self._schema.names, use_threads=False),
            convert_options=csv.ConvertOptions(column_types=self._schema),
        )
        self._held.clear()
        try:
            self._file.write_table(table)
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        if self._file is None:
            return
        try:
            self.flush()
        finally:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:
                raise self._error(error) from error

    def _error(self, error: OSError) -> SourceError:
        reason = os.strerror(error.errno) if error.errno else error
        return SourceError(f"{self.uri}: cannot be written: {reason}; make room and start again")
