"""Compiled functions take what Python gives them as it is, or not at all; and come from disk unharmed."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ftrl_engine import jit, machine_code
from ftrl_engine.intrinsics import flat, ldexp
from ftrl_engine.jit import COMPILED, inlined, kernel
from ftrl_engine.kernels import Kernel

pytestmark = pytest.mark.skipif(not COMPILED, reason="runs with NUMBA_DISABLE_JIT")


class Pair(NamedTuple):
    numbers: NDArray[np.float64]
    share: float
    offset: int


class Nest(NamedTuple):
    pair: Pair
    bits: np.uint64


@kernel
def weigh(pair: Pair, by: float) -> float:
    total = 0.0
    for i in range(len(pair.numbers)):
        total += pair.numbers[i]
    return float(total * pair.share * by + pair.offset)


@kernel
def look_into(nest: Nest, flag: bool) -> Any:
    return len(nest.pair.numbers), nest.pair.share, nest.bits, flag


@kernel
def twice(x: Any) -> Any:
    return x + x


@kernel
def trace(table: NDArray[np.float64]) -> float:
    total = 0.0
    for i in range(min(table.shape)):
        total += table[i, i]
    return total


@kernel
def fill(cells: Any, value: int) -> None:
    for i in range(len(cells)):
        cells[i] = value


@kernel
def called(x: int) -> int:
    return x * x


@inlined
def merged(x: int) -> int:
    return called(x) + 1


@kernel
def caller(x: int) -> int:
    return merged(x)


@kernel
def churn(x: np.uint64, times: int) -> np.uint64:
    for _ in range(times):
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
    return x


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(finite, max_size=9), finite, st.integers(-(2**63), 2**63 - 1), finite)
def test_tuples_arrays_and_numbers_arrive_as_they_are(
    numbers: list[float], share: float, count: int, by: float
) -> None:
    pair = Pair(np.array(numbers, np.float64), share, count)
    assert weigh(pair, by) == pytest.approx(sum(numbers) * share * by + count, rel=1e-12, abs=1e-9)


@given(st.lists(finite, max_size=9), finite, st.integers(0, 2**64 - 1), st.booleans())
def test_tuples_in_tuples_go_in_and_out(numbers: list[float], share: float, bits: int, flag: bool) -> None:
    nest = Nest(Pair(np.array(numbers, np.float64), share, 1), np.uint64(bits))
    found = look_into(nest, flag)
    assert found == (len(numbers), share, bits, flag)
    assert [type(part) for part in found] == [int, float, int, bool]


@pytest.mark.parametrize(
    "value", [-1, 3, 2**62 - 1, -(2**62), 0.5, np.uint64(7), np.int32(-7), np.float64(0.25)]
)
def test_every_kind_of_number_has_code_of_its_own(value: Any) -> None:
    for _ in range(2):
        found = twice(value)
        assert found == value + value
        assert type(found) is (float if isinstance(value, float) else int)


def test_an_integer_beyond_64_bits_is_an_error() -> None:
    twice(1)
    with pytest.raises(OverflowError):
        twice(2**63)
    with pytest.raises(OverflowError):
        twice(-(2**63) - 1)
    assert twice(4) == 8


@pytest.mark.parametrize("bad", ["text", None, [1.0], object()])
def test_what_no_kernel_takes_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="a kernel takes arrays, numbers and tuples of them, got"):
        twice(bad)


@pytest.mark.parametrize(
    "form",
    [
        lambda t: t,
        lambda t: t.T,
        lambda t: t[::2, ::3],
        lambda t: t[::-1],
        lambda t: np.asfortranarray(t),
        lambda t: t.astype(np.float32),
        lambda t: t.astype(">f8").astype("=f8"),
        lambda t: np.frombuffer(t.tobytes(), np.float64).reshape(t.shape),
        lambda t: np.frombuffer(b"\0" + t.tobytes(), np.float64, offset=1).reshape(t.shape),
        lambda t: t.view(np.recarray).view(np.ndarray),
        lambda t: np.lib.stride_tricks.as_strided(t, (3, 3), (8, 8)),
    ],
)
def test_arrays_of_every_form_are_read_where_they_stand(form: Callable[[Any], Any]) -> None:
    table = form(np.arange(30.0).reshape(5, 6))
    for _ in range(2):
        assert trace(table) == np.trace(np.asarray(table))


def test_arrays_of_other_kinds_do_not_pass_for_each_other() -> None:
    values = np.zeros(4, np.int64)
    fill(values, 5)
    assert (values == 5).all()
    narrow = np.zeros(4, np.int32)
    fill(narrow, 6)
    assert (narrow == 6).all()
    every_other = np.zeros(8, np.int64)
    fill(every_other[::2], 7)
    assert every_other.tolist() == [7, 0] * 4
    fill(values, 8)
    assert (values == 8).all()
    long_long = np.zeros(4, np.longlong)
    fill(long_long, 9)
    assert (long_long == 9).all()
    with pytest.raises(TypeError):
        fill([1, 2], 3)


def test_read_only_arrays_need_no_code_of_their_own() -> None:
    table = np.ones((2, 2))
    trace(table)
    pieces = len(trace._pieces)  # type: ignore[attr-defined]
    table.flags.writeable = False
    assert trace(table) == 2.0
    assert len(trace._pieces) == pieces  # type: ignore[attr-defined]


def test_other_threads_run_beside_a_kernel() -> None:
    churn(np.uint64(1), 1)
    done, turns = threading.Event(), []

    def count() -> None:
        while not done.is_set():
            turns.append(time.perf_counter())

    counter = threading.Thread(target=count)
    counter.start()
    began = time.perf_counter()
    churn(np.uint64(1), 200_000_000)
    ended = time.perf_counter()
    done.set()
    counter.join()
    inside = [turn for turn in turns if began + 0.01 < turn < ended - 0.01]
    assert len(inside) > 100


def test_nothing_is_left_behind_by_a_call() -> None:
    """Arguments and results keep the number of references they had."""
    pair, by = Pair(np.ones(3), 0.5, 2), 0.125
    weigh(pair, by)
    before = [sys.getrefcount(thing) for thing in (pair, pair.numbers, by, None, machine_code.MISMATCH)]
    for _ in range(1000):
        weigh(pair, by)
        fill(pair.numbers.view(np.int64), 3)
    after = [sys.getrefcount(thing) for thing in (pair, pair.numbers, by, None, machine_code.MISMATCH)]
    assert max(abs(b - a) for a, b in zip(before, after, strict=True)) < 100


def add(a: int, b: int) -> int:
    return a + b


def test_a_literal_does_not_compile_a_function_again() -> None:
    plus: Any = Kernel(add, {}, None)

    def thrice(a: int) -> Any:
        return plus(plus(a, 1), plus(a, 2))

    assert Kernel(thrice, {}, None)(1) == 5
    assert len(plus.part.overloads) == 1
    assert plus.compiled == 0, "nothing is compiled for Python that Python has not called"
    assert plus(2, 3) == 5
    assert plus.compiled == 1


def test_other_processes_are_told_a_kernel_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(twice)) is twice
    assert copy.copy(twice) is twice
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(Kernel(add, {}, None))


def test_a_kernel_that_calls_what_only_numba_has_is_refused() -> None:
    def flatten(table: NDArray[np.float64]) -> float:
        return float(table.reshape(-1)[0])

    with pytest.raises(TypeError, match="numba_attempt_nocopy_reshape, which only numba has"):
        Kernel(flatten, jit_options(), None)(np.ones((2, 2)))


def jit_options() -> dict[str, Any]:
    return dict(trace.options)  # type: ignore[attr-defined]


def test_a_kernel_returns_numbers() -> None:
    def same(table: NDArray[np.float64]) -> NDArray[np.float64]:
        return table

    with pytest.raises(TypeError, match="returns numbers or nothing, not"):
        Kernel(same, jit_options(), None)(np.ones(2))


@kernel
def last_of(table: NDArray[np.float64]) -> float:
    cells = flat(table)
    return float(ldexp(cells[len(cells) - 1], -3))


def test_a_table_is_read_flat_and_scaled() -> None:
    assert last_of(np.arange(12.0).reshape(3, 4)) == 11 / 8


def test_numba_is_not_loaded_where_nothing_is_compiled(tmp_path: Path) -> None:
    """What it would cost: most of a second and a hundred megabytes in every process."""
    events = tmp_path / "events.libsvm"
    events.write_text("1 3:1\n0 4:1\n")
    script = """
import sys
from ftrl_engine import cli
status = cli.main(sys.argv[1:])
print("numba" in sys.modules, file=sys.stderr)
sys.exit(status)
"""
    words = [sys.executable, "-c", script, "learn", str(events), "--schema", "libsvm", "--quiet", "--model"]
    found = []
    for run in ("one", "two"):
        done = subprocess.run(
            [*words, str(tmp_path / run)], capture_output=True, text=True, timeout=120, check=True
        )
        found.append(done.stderr.split()[-1])
    assert found[1] == "False"
    assert jit.CACHE is not None


def test_what_a_merged_function_calls_is_not_merged_for_that() -> None:
    """numba hands its options on to what is compiled on the way."""
    assert caller(3) == 10
    functions: list[Any] = [caller, merged, called]
    functions[0].part.compile((numba.types.int64,))
    compiled = [next(iter(function.part.overloads.values())) for function in functions]
    assert [part.fndesc.inline for part in compiled] == [False, True, False]
