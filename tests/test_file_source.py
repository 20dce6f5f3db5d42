"""Files and globs: every complete record once, in order, from any position, and following."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.errors import ConfigError, SourceError
from streams.file_names import format_of
from streams.source import open_source
from tests.file_reading import MARK, PACKERS, blocks_of, opened, oracle, read, records_of, write

# Few letters, so that blank lines and \r\n are frequent.
contents = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"a", b"bc", b"\t", b"0123456789", b"z" * 40 + b"\n"]), max_size=40
).map(b"".join)


@given(
    st.lists(contents, min_size=1, max_size=3),
    st.sampled_from(list(PACKERS)),
    st.integers(1, 60),
    st.booleans(),
)
def test_reading_goes_on_exactly_at_every_position(
    texts: list[bytes], suffix: str, block_bytes: int, headed: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        head = b"x\ty\n" if headed else b""
        paths = [
            write(Path(name) / f"{i}.tsv{suffix}", PACKERS[suffix](head + text))
            for i, text in enumerate(texts)
        ]
        names = [*map(str, paths)]
        given = {"block_bytes": block_bytes, "columns_known": not headed}
        whole = [
            (str(p.resolve()), record)
            for p, text in zip(paths, texts, strict=True)
            for record in oracle(text)
        ]

        def rest_from(positions: Mapping[str, int]) -> list[tuple[str, bytes]]:
            with opened(names, positions, **given) as source:
                return [(b.partition, record) for b in blocks_of(source) for record in records_of(b)]

        assert rest_from({}) == whole
        seen = 0
        with opened(names, {}, **given) as source:
            for block in blocks_of(source):
                assert block.header == (b"x\ty" if headed else None)
                before = source.positions()
                for i in range(len(block)):
                    at = before | {block.partition: int(block.positions[i])}
                    assert rest_from(at) == whole[seen + i + 1 :]
                seen += len(block)
                assert before[block.partition] == block.next
            assert rest_from(source.positions()) == []


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("name", ["e.tsv", "e.bin", "e.tsv.gz", "e.tsv.zst"])
def test_compression_is_told_from_the_content_not_from_the_name(
    tmp_path: Path, name: str, suffix: str
) -> None:
    text = b"".join(b"%d\tcell\n" % i for i in range(3000))
    path = write(tmp_path / name, PACKERS[suffix](text))
    records, refused, positions = read(path, block_bytes=5000)
    assert records == oracle(text)
    assert refused == []
    assert positions == {str(path): len(text)}


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.tsv", "tsv"), ("A.CSV.GZ", "csv"), ("a.jsonl.zst", "jsonl"), ("a.ndjson", "jsonl"),
        ("a.json", "jsonl"),
        ("a.svmlight.gz", "libsvm"), ("a.libsvm", "libsvm"), ("a.vw", "vw"), ("a.b.parquet", "parquet"),
        ("a.txt", None), ("u.data.gz", None), ("a.dat", None), ("a", None), ("tsv", None), ("a.gz", None),
    ],
)  # fmt: skip
def test_format_comes_from_the_name(name: str, format: str | None) -> None:
    assert format_of(name) == format


def test_format_of_the_source(tmp_path: Path) -> None:
    tsv = str(write(tmp_path / "a.tsv.gz", b""))
    csv_file = str(write(tmp_path / "b.csv", b""))
    data = str(write(tmp_path / "c.data", b""))
    for names, told, format in [
        (tsv, None, "tsv"),
        (data, None, None),
        (data, "vw", "vw"),
        ([tsv, csv_file], "csv", "csv"),
    ]:
        with opened(names, format=told) as source:
            assert source.format == format
    with pytest.raises(ConfigError, match=r"one format, but .*a\.tsv\.gz is tsv and .*b\.csv is csv"):
        open_source([tsv, csv_file])
    with pytest.raises(ConfigError, match=r"c\.data is of no known format"):
        open_source([tsv, data])


def test_the_header_is_on_every_block_and_read_again_on_resuming(tmp_path: Path) -> None:
    first = write(tmp_path / "1.csv", MARK + b"a,b\r\n1,2\n3,4\n")
    second = write(tmp_path / "2.csv", b"\nb,c\n5,6\n")
    names = [str(first), str(second)]
    for block_bytes in (1, 7, 1000):
        with opened(names, block_bytes=block_bytes, columns_known=False) as source:
            found = [(b.header, r) for b in blocks_of(source) for r in records_of(b)]
        assert found == [(b"a,b", b"1,2"), (b"a,b", b"3,4"), (b"b,c", b"5,6")]
    with opened(names, {str(first): 12}, columns_known=False) as source:
        block = source.poll(0)
    assert block is not None
    assert (block.header, records_of(block), block.first) == (b"a,b", [b"3,4"], 12)
    # A position inside the header is taken for its end.
    assert read(names, {str(first): 0, str(second): 1}, columns_known=False)[0] == [b"1,2", b"3,4", b"5,6"]


@pytest.mark.parametrize("name", ["h.csv", "h.tsv"])
def test_a_file_of_a_header_only_has_no_records(tmp_path: Path, name: str) -> None:
    for text in (b"", b"a,b", b"a,b\n", MARK + b"a,b\n\n"):
        path = write(tmp_path / name, text)
        records, refused, positions = read(path, columns_known=False)
        assert records == []
        assert refused == []
        assert read(path, positions, columns_known=False)[0] == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.vw", "a.libsvm", "a.txt"])
def test_formats_without_a_header_keep_their_first_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, b"one\ntwo\n")
    assert read(path, columns_known=False)[0] == [b"one", b"two"]


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_byte_order_mark_is_no_part_of_the_record_but_counts(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "a.tsv", PACKERS[suffix](MARK + b"one\n" + MARK + b"two\n"))
    records, _, positions = read(path, block_bytes=2)
    assert records == [b"one", MARK + b"two"]
    assert positions == {str(path): 14}
    assert read(path, {str(path): 3})[0] == [b"one", MARK + b"two"]
    write(path, PACKERS[suffix](MARK + b"\r\none\n"))
    assert read(path)[0] == [b"one"]


def test_globs_sort_naturally_and_leave_directories_out(tmp_path: Path) -> None:
    for name in ("e-10.tsv", "e-2.tsv", "e-1.tsv", "f-1.tsv"):
        write(tmp_path / name, name.encode() + b"\n")
    (tmp_path / "e-3.tsv").mkdir()
    (tmp_path / "e-4.tsv").symlink_to(tmp_path / "e-2.tsv")
    records, _, positions = read(tmp_path / "e-*.tsv")
    assert records == [b"e-1.tsv", b"e-2.tsv", b"e-10.tsv"]
    assert list(positions) == [str(tmp_path / name) for name in ("e-1.tsv", "e-2.tsv", "e-10.tsv")]
    assert read([str(tmp_path / "f*"), str(tmp_path / "e-1.tsv")])[0] == [b"f-1.tsv", b"e-1.tsv"]
    # A file that is named like a pattern is that file.
    write(tmp_path / "e-[12].tsv", b"itself\n")
    assert read(tmp_path / "e-[12].tsv")[0] == [b"itself"]


def test_positions_cover_files_read_and_files_passed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two, three = (write(tmp_path / f"{i}.vw", b"a\nb\n") for i in (1, 2, 3))
    saved = {str(two): 2, str(three): 4, "/gone.vw": 9}
    with opened("./?.vw", saved, block_bytes=1) as source:
        assert source.positions() == saved | {str(one): 0}
        blocks = list(blocks_of(source))
    assert [(b.partition, b.record(0)) for b in blocks] == [
        (str(one), b"a"),
        (str(one), b"b"),
        (str(two), b"b"),
    ]
    assert source.positions() == saved | {str(one): 4, str(two): 4}
    assert source.fraction() == 1.0


def test_fraction_grows_from_file_to_file(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{i}.vw", b"a\n" * 500)) for i in range(4)]
    with opened(paths) as source:
        seen = [source.fraction()] + [source.fraction() for _ in blocks_of(source)]
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]
    with opened(paths, follow=True) as source:
        assert source.fraction() is None


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.tsv: no such file; check the name"):
        open_source(str(tmp_path / "absent.tsv"))
    with pytest.raises(SourceError, match=r"absent-\*\.tsv: no file matches; check the pattern"):
        open_source(str(tmp_path / "absent-*.tsv"))
    with pytest.raises(SourceError, match=r"is a directory; name the files in it, for example '.*/\*\.tsv'"):
        open_source(str(tmp_path))
    path = str(write(tmp_path / "a.tsv", b"a\n"))
    with pytest.raises(SourceError, match="absent: no such file"):
        open_source([path, str(tmp_path / "absent")])
    with pytest.raises(ConfigError, match=r"a\.tsv: given twice"):
        open_source([path, path])
    with pytest.raises(ConfigError, match="read it alone"):
        open_source([path, "-"])
    with pytest.raises(ConfigError, match="only files can be read together"):
        open_source([path, "log:events"])
    nothing: list[str] | str
    for nothing in ([], ""):
        with pytest.raises(ConfigError, match="needs the name of a file"):
            open_source(nothing)


def test_a_file_removed_before_its_turn_is_named(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.vw", b"a\n") for i in range(2)]
    with opened(tmp_path / "*.vw") as source:
        paths[1].unlink()
        with pytest.raises(SourceError, match=r"1\.vw: no such file"):
            list(blocks_of(source))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_permission_denied_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        path = write(Path(name) / "a.tsv", b"a\n")
        path.chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # nobody: permissions do not bind root
        try:
            with pytest.raises(
                SourceError, match=r"a\.tsv: cannot be opened: Permission denied; make it readable"
            ):
                open_source(str(path))
        finally:
            if root:
                os.seteuid(0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PAR1\x15\x04\x15", "is a parquet file; give the format parquet"),
        (b"BZh91AY&SYxxx", "is compressed with bzip2; use gzip or zstd"),
        (b"\xfd7zXZ\0\0", "is compressed with xz"),
        (b"PK\x03\x04abc", "is a zip archive"),
        (b"\xff\xfea\0\n\0", "holds UTF-16 text; convert it to UTF-8"),
        (b"\xfe\xff\0a\0\n", "holds UTF-16 text; convert it to UTF-8"),
        ("a\n".encode("utf-32"), "holds UTF-32 text; convert it to UTF-8"),
        (b"\0\0\xfe\xff\0\0\0a", "holds UTF-32 text; convert it to UTF-8"),
    ],
)
def test_other_kinds_of_files_are_refused_with_the_cure(tmp_path: Path, data: bytes, message: str) -> None:
    path = write(tmp_path / "a.tsv", data)
    with pytest.raises(SourceError, match=message):
        read(path)


@pytest.mark.parametrize("text", [b"P", b"PK", b"(", b"BZh\n", b"PAR1", b"PAR1\n", b"\0", b"\0\0x\n"])
def test_text_that_begins_like_another_kind_is_text(tmp_path: Path, text: bytes) -> None:
    assert read(write(tmp_path / "a.tsv", text))[0] == oracle(text)


@pytest.mark.parametrize("suffix", PACKERS)
def test_positions_of_another_file_are_refused(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.tsv{suffix}", PACKERS[suffix](b"first\nsecond\n"))
    for position, message in [
        (14, "position 14 is beyond its end, 13 bytes; if the file was replaced, learn into a new model"),
        (99, "position 99 is beyond its end, 13 bytes"),
        (3, "position 3 is not where a record begins"),
    ]:
        with pytest.raises(SourceError, match=message) as caught:
            read(path, {str(path): position})
        assert str(path) in str(caught.value)
    write(path, PACKERS[suffix](b""))
    with pytest.raises(SourceError, match="position 6 is beyond its end, 0 bytes"):
        read(path, {str(path): 6})
    write(path, PACKERS[suffix](b"no header line"))
    with pytest.raises(SourceError, match="without a header line"):
        read(path, {str(path): 14}, columns_known=False)


def test_an_unterminated_last_line_is_read_and_may_get_its_line_end_later(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", b"a\nb")
    records, _, positions = read(path)
    assert (records, positions) == ([b"a", b"b"], {str(path): 3})
    write(path, b"a\nb\r\nc\n")
    assert read(path, positions)[0] == [b"c"]
    write(path, b"a\nbcd\n")
    with pytest.raises(SourceError, match="position 3 is not where a record begins"):
        read(path, positions)


@pytest.mark.parametrize(
    ("name", "known", "rows", "header"),
    [
        ("criteo/dac_60k.tsv.gz", True, 60_000, None),
        ("avazu/avazu_10k.csv.gz", False, 9_999, b"id,click,hour"),
        ("talkingdata/clicks_100k.csv.gz", False, 100_000, b"ip,app,device"),
        ("a9a/a9a.gz", False, 32_561, None),
        ("vw/rcv1_small.dat.gz", False, 1_000, None),
        ("criteo_attribution/small_train.parquet", True, 115_382, b"cat1,cat4"),
    ],
)
def test_real_files_have_the_rows_they_are_known_for(
    shared_data: Path, name: str, known: bool, rows: int, header: bytes | None
) -> None:
    path = shared_data / name
    with opened(path, columns_known=known) as source:
        blocks = list(blocks_of(source))
    assert sum(map(len, blocks)) == rows
    assert [refusal for block in blocks for refusal in block.refused] == []
    for block in blocks:
        assert (block.header or b"").startswith(header or b"")
        assert (block.header is None) == (header is None)
    if path.suffix == ".gz":
        content = gzip.decompress(path.read_bytes())
        assert source.positions() == {str(path.resolve()): len(content)}
        lines = oracle(content)[header is not None :]
        assert [record for block in blocks for record in records_of(block)] == lines
