"""Decimal text and the transforms of numbers."""

from __future__ import annotations

import itertools
import math
import re
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ftrl_engine.decimals import read_decimal
from ftrl_engine.hashing import as_buffer
from ftrl_engine.numbers import (
    DECIMAL,
    EXPONENT,
    INTEGER,
    NOT_A_NUMBER,
    bin_of,
    bucket_of_whole,
    log_bucket,
    parse_number,
    plain_decimal,
    scan_number,
    short_whole,
    short_whole_or_empty,
)

GRAMMAR = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
finite = st.floats(allow_nan=False, allow_infinity=False)
number_texts = st.from_regex(re.compile(r"\A[+-]?([0-9]{0,30}\.?[0-9]{0,30})([eE][+-]?[0-9]{1,4})?\Z"))


def surrounded(text: str) -> tuple[np.ndarray, int, int]:
    """The text among digits that do not belong to it."""
    return as_buffer(b"9" + text.encode() + b"9e9", padding=8), 1, 1 + len(text.encode())


@given(number_texts | finite.map(repr) | st.text("0123456789.eE+-_ naif", max_size=12))
@example("1" * 15)
@example("9007199254740993")
@example("0.1234567890123456789")
@example("-0.0")
@example("1e22")
@example("179769313486231580793e289")
def test_parse_number_is_the_nearest_float64(text: str) -> None:
    found = parse_number(*surrounded(text))
    right = float(text) if GRAMMAR.fullmatch(text) else math.nan
    if math.isfinite(right):
        assert (found, math.copysign(1, found)) == (right, math.copysign(1, right))
    else:
        assert math.isnan(found)


@given(
    st.from_regex(r"\A-?[0-9]{0,17}\.?[0-9]{0,17}\Z") | number_texts | finite.map(repr),
    st.sampled_from(["", ",", "}", ".", "e5", "-", " "]),
)
@example("0.123456789012345", ",")
@example("-0.0", "")
@example("00.5", "")
@example("1.", ",")
@example("-.5", "")
@example("1234567890.12345", "}")
def test_plain_decimals_are_those_of_json(text: str, after: str) -> None:
    """Where a whole number with a point ends is where the longest one ends; others end at once."""
    data, lo, hi = surrounded(text + after)
    end, x = plain_decimal(data, lo, hi)
    plain = re.compile(r"-?(0|[1-9]\d*)\.\d+", re.ASCII).match(text + after)
    if plain is None or sum(map(str.isdigit, plain[0])) > 15:
        assert end == lo or re.compile(r"[0-9]").match((text + after)[end - lo :])
    else:
        right = float(plain[0])
        assert (end - lo, x, math.copysign(1, x)) == (len(plain[0]), right, math.copysign(1, right))


@given(finite.filter(lambda x: 0 < abs(x) < 1e308), st.sampled_from(["", "0" * 900, "0" * 900 + "1"]))
def test_halfway_decimals_of_any_length_round_correctly(x: float, more: str) -> None:
    """Between two neighbours lies a decimal of up to 767 digits; one more digit decides."""
    with localcontext() as context:
        context.prec = 1200
        halfway = (Decimal(x) + Decimal(math.nextafter(x, math.inf))) / 2
        plain = f"{halfway:f}"
    text = plain + ("" if "." in plain else ".") + more
    assert read_decimal(*surrounded(text)) == float(text)


@pytest.mark.parametrize(
    "text", ["1e400", "-1e400", "1e-400", "0e99999999999999999999", "1e99999999999999999999"]
)
def test_read_decimal_beyond_the_range(text: str) -> None:
    assert read_decimal(*surrounded(text)) == float(text)


@pytest.mark.parametrize("zeros", [10, 5000, 200_000])
def test_zeros_are_no_digits(zeros: int) -> None:
    assert read_decimal(*surrounded("0." + "0" * zeros + f"25e{zeros}")) == 0.25
    assert read_decimal(*surrounded("25" + "0" * zeros + f"e-{zeros + 2}")) == 0.25


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("7", INTEGER), ("-007", INTEGER), ("+1", INTEGER),
        ("1.", DECIMAL), (".5", DECIMAL), ("1e-5", DECIMAL), ("1.5E3", DECIMAL), ("12e+7", DECIMAL),
        ("12e7", EXPONENT), ("7E9999", EXPONENT),
        ("", NOT_A_NUMBER), (".", NOT_A_NUMBER), ("1e", NOT_A_NUMBER), ("e5", NOT_A_NUMBER),
        ("1e+", NOT_A_NUMBER), ("1_0", NOT_A_NUMBER), ("1.2.3", NOT_A_NUMBER), ("inf", NOT_A_NUMBER),
        ("0x1", NOT_A_NUMBER), (" 1", NOT_A_NUMBER),
    ],
)  # fmt: skip
def test_scan_number(text: str, what: int) -> None:
    assert scan_number(*surrounded(text)) == what


def test_hexadecimal_identifiers_are_no_decimals() -> None:
    """About one in seventy of them looks like digits with an exponent."""
    identifiers = [f"{i * 2654435761 % 2**32:08x}" for i in range(20_000)]
    assert {int(scan_number(*surrounded(text))) for text in identifiers} == {NOT_A_NUMBER, INTEGER, EXPONENT}


@given(finite)
@example(5e-324)
@example(1.7976931348623157e308)
def test_log_bucket(x: float) -> None:
    size = abs(x)
    if size in (0, 1, 2):
        right = int(size) if x >= 0 else -int(size) - 1_000_000
    elif size > 2:
        right = 3 + math.floor(math.log(size) * math.log(size))
        right = right if x > 0 else -right - 1_000_000
    else:
        right = math.floor(2 * math.log2(size)) - (10 if x > 0 else 4106)
    assert log_bucket(x) == right


def test_buckets_of_different_ranges_differ() -> None:
    large = np.geomspace(2.01, 1e308, 999).tolist()
    small = [float(x) for x in np.geomspace(5e-324, 1.99, 999) if x != 1.0]
    signs = [[-x for x in numbers] for numbers in (large, small)]
    ranges = [[0.0], [1.0], [2.0], [-1.0], [-2.0], large, small, *signs]
    buckets = [{int(log_bucket(x)) for x in numbers} for numbers in ranges]
    assert all(one.isdisjoint(two) for one, two in itertools.combinations(buckets, 2))


@given(finite, st.lists(finite, min_size=1, max_size=9, unique=True).map(sorted), st.integers(0, 3))
def test_bin_of_counts_the_edges_below(x: float, edges: list[float], before: int) -> None:
    table = np.array([0.5] * before + edges + [0.5])
    assert bin_of(x, table, before, before + len(edges)) == sum(edge <= x for edge in edges)


@given(st.text("0123456789", max_size=10) | st.text("0129:/ -+.eA\x00\xff", max_size=9))
def test_short_whole_takes_one_to_eight_digits(text: str) -> None:
    expected = int(text) if re.fullmatch(r"[0-9]{1,8}", text) else -1
    assert short_whole(*surrounded(text)) == expected
    assert short_whole_or_empty(*surrounded(text)) == (expected if text else 0)


def test_buckets_of_whole_numbers_need_no_logarithm() -> None:
    for x in (*range(5000), 99_999_999):
        assert bucket_of_whole(x) == log_bucket(float(x))
