"""Parquet files as lines of CSV."""

from __future__ import annotations

import csv
import datetime
import io
import sys
import tempfile
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.errors import ConfigError, SourceError
from streams.source import PADDING, SourceOptions, open_source
from tests.file_reading import blocks_of, opened, read, records_of, write


def parquet(path: Path, columns: Mapping[str, Any], **given: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(dict(columns)), path, **given)
    return path


def rows_of(path: Path, **given: Any) -> tuple[list[str], list[list[str]]]:
    """(header, rows) as the csv module reads them."""
    with opened(path, **given) as source:
        assert source.format == "csv"
        blocks = list(blocks_of(source))
    (header,) = {block.header for block in blocks}
    assert header is not None
    rows = [next(csv.reader(io.StringIO(r.decode(), newline=""))) for b in blocks for r in records_of(b)]
    return next(csv.reader([header.decode()])), rows


def test_values_of_parquet_become_text(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    when = datetime.datetime(2026, 1, 2, 3, 4, 5)
    columns = {
        "id": [1, None], "price": [2.0, 0.25], "bool": [True, False], "text": ["a,b", 'say "x"\nand y'],
        "when": [when, None], "day": [when.date(), None], "money": [Decimal("1.50"), None],
        "tags": [["u", "v"], []], "numbers": pa.array([[1, None, 3], None]),
        "pair": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        "kind": pa.array(["k", None]).dictionary_encode(),
        "bytes": [b"raw", b""], "nothing": pa.nulls(2), "a, name": ["x", "y"],
    }  # fmt: skip
    header, rows = rows_of(parquet(tmp_path / "a.parquet", columns))
    assert header == list(columns)
    assert rows == [
        ["1", "2", "true", "a,b", "2026-01-02 03:04:05.000000", "2026-01-02", "1.50", "u,v", "1,,3", "1,2",
         "k", "raw", "", "x"],
        ["", "0.25", "false", 'say "x"\nand y', "", "", "", "", "", "", "", "", "", "y"],
    ]  # fmt: skip


@given(
    st.lists(st.text(st.sampled_from('ab,"\n\r'), max_size=6), max_size=30),
    st.integers(1, 200), st.integers(1, 12), st.data(),
)  # fmt: skip
def test_parquet_goes_on_exactly_at_every_row(
    texts: list[str], block_bytes: int, group: int, data: st.DataObject
) -> None:
    pa = pytest.importorskip("pyarrow")
    with tempfile.TemporaryDirectory() as name:
        columns = {"n": range(len(texts)), "text": pa.array(texts, pa.string())}
        path = parquet(Path(name).resolve() / "a.parquet", columns, row_group_size=group)
        start = data.draw(st.integers(0, len(texts)))
        found, position = [], start
        with opened(path, {str(path): start}, block_bytes=block_bytes) as source:
            for block in blocks_of(source):
                assert len(block.data) >= block.ends[-1] + PADDING
                assert block.data.flags.writeable
                assert (block.first, block.next) == (position, position + len(block))
                assert block.positions.tolist() == [*range(position + 1, block.next + 1)]
                position = block.next
                found += records_of(block)
                assert source.positions() == {str(path): position}
        assert position == len(texts)
        rows = [next(csv.reader(io.StringIO(record.decode(), newline=""))) for record in found]
        assert rows == [[str(n), text] for n, text in enumerate(texts)][start:]


def test_a_column_of_missing_values_still_counts_its_rows(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"x": [None, 1, None]})
    assert read(path)[0] == [b"", b"1", b""]


def test_several_parquet_files_and_large_ones(tmp_path: Path) -> None:
    paths = [parquet(tmp_path / f"{i}.parquet", {"x": range(i, 100_000 + i)}) for i in range(2)]
    records, _, positions = read([*map(str, paths)], block_bytes=50_000)
    assert records == [b"%d" % (i + n) for i in range(2) for n in range(100_000)]
    assert positions == {str(path): 100_000 for path in paths}


def test_the_unnamed_index_of_pandas_is_no_column(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": [1, 2, 3]})
    frame[frame.a != 2].to_parquet(tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet") == (["a"], [["1"], ["3"]])


def test_parquet_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "a.parquet", {"x": [1, 2]})
    with pytest.raises(ConfigError, match="cannot be followed"):
        open_source(str(path), options=SourceOptions(follow=True))
    with pytest.raises(ConfigError, match="parquet cannot be read from standard input"):
        open_source("-", options=SourceOptions(format="parquet"))
    with pytest.raises(SourceError, match=r"a\.parquet: position 3 is beyond its end, 2 rows"):
        open_source(str(path), {str(path): 3})
    nested = parquet(tmp_path / "nested.parquet", {"deep": [{"a": 1}]})
    with pytest.raises(ConfigError, match=r"column 'deep' is struct<a: int64>, which has no text"):
        open_source(str(nested))
    broken = write(tmp_path / "broken.parquet", path.read_bytes()[:-9])
    with pytest.raises(SourceError, match=r"broken\.parquet: cannot be read as parquet"):
        open_source(str(broken))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'ftrl-engine\[parquet\]'"):
        open_source(str(path))
