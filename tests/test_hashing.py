"""XXH64 against the reference package, slots, and compiled against plain Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine import FeatureHasher, Schema
from ftrl_engine.errors import ConfigError
from ftrl_engine.hashing import (
    MAX_BITS,
    as_buffer,
    check_bits,
    hash_bytes,
    salt,
    xxh64,
    xxh64_short,
    xxh64_word,
)
from tests.conftest import ROOT
from tests.encoding_sample import sample

words = st.integers(0, 2**64 - 1)


def hash_in_kernel(data: bytes, seed: int) -> int:
    return int(xxh64(as_buffer(data), 0, len(data), np.uint64(seed)))


@given(st.binary(max_size=300), words)
def test_equals_the_reference(data: bytes, seed: int) -> None:
    assert hash_in_kernel(data, seed) == hash_bytes(data, seed) == xxhash.xxh64_intdigest(data, seed)


def test_every_length_up_to_five_stripes() -> None:
    data = bytes(range(7, 7 + 170))
    for length in range(len(data)):
        assert hash_in_kernel(data[:length], length) == xxhash.xxh64_intdigest(data[:length], length)


@given(st.binary(max_size=40), st.binary(max_size=60), st.binary(max_size=40), words)
def test_only_the_range_is_read(before: bytes, data: bytes, after: bytes, seed: int) -> None:
    buffer = as_buffer(before + data + after)
    found = xxh64(buffer, len(before), len(before) + len(data), np.uint64(seed))
    assert int(found) == xxhash.xxh64_intdigest(data, seed)


@given(st.binary(max_size=8), st.binary(max_size=40), st.binary(min_size=8, max_size=8), words)
def test_short_ones_are_the_same(before: bytes, data: bytes, after: bytes, seed: int) -> None:
    for length in range(len(data) + 1):
        buffer = as_buffer(before + data + after)
        found = xxh64_short(buffer, len(before), len(before) + length, np.uint64(seed))
        assert int(found) == xxhash.xxh64_intdigest(data[:length], seed)


@given(words, words)
def test_a_word_is_its_eight_little_endian_bytes(word: int, seed: int) -> None:
    assert int(xxh64_word(np.uint64(word), np.uint64(seed))) == xxhash.xxh64_intdigest(
        word.to_bytes(8, "little"), seed
    )


def test_slots_are_the_top_bits() -> None:
    h = xxhash.xxh64_intdigest(b"u7", xxhash.xxh64_intdigest(b"user", 0))
    assert salt("user") == xxhash.xxh64_intdigest(b"user", 0)
    for bits in (1, 8, 22, MAX_BITS):
        assert FeatureHasher(Schema(), bits).slot("user", "u7") == h >> (64 - bits)


def test_slots_spread_evenly() -> None:
    """Chi-squared of 2**16 numbered tokens on 256 slots: mean 255, deviation 22.6."""
    hasher = FeatureHasher(Schema(), 8)
    counts = np.bincount([hasher.slot("id", str(i)) for i in range(1 << 16)], minlength=256)
    assert 255 - 6 * 22.6 < ((counts - 256.0) ** 2 / 256).sum() < 255 + 6 * 22.6


@pytest.mark.parametrize("bits", [0, -1, MAX_BITS + 1])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"bits must be between 1 and 31, got {bits}"):
        check_bits(bits)


def test_plain_python_equals_compiled() -> None:
    """The same sources run without the compiler give the same hashes, numbers, rows and values."""
    code = "import json; from tests.encoding_sample import sample; print(json.dumps(sample()))"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == json.loads(json.dumps(sample()))
