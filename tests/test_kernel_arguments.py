"""Machine code is used for the arguments that it was made for; others are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ftrl_engine.jit import COMPILED, kernel
from ftrl_engine.kernels import Kernel

pytestmark = pytest.mark.skipif(not COMPILED, reason="runs with NUMBA_DISABLE_JIT")

OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}


def total(cells: NDArray[np.float64]) -> float:
    found = 0.0
    for i in range(len(cells)):
        found += cells[i]
    return found


@pytest.mark.parametrize("strides", [(1, 2), (2, 1)])
def test_what_was_compiled_as_a_part_does_not_pass_for_what_was_compiled_last(strides: Any) -> None:
    part: Any = Kernel(total, OPTIONS, None)

    def whole(cells: NDArray[np.float64]) -> Any:
        return part(cells)

    numbers = np.arange(10.0)
    for stride in strides:
        assert Kernel(whole, OPTIONS, None)(numbers[::stride]) == numbers[::stride].sum()
    for stride in strides:
        assert part(numbers[::stride]) == numbers[::stride].sum()


def test_kinds_of_number_that_are_one_type_for_the_compiler_are_told_apart() -> None:
    def same(x: Any) -> Any:
        return x

    ident: Any = Kernel(same, {}, None)
    given = [np.int64(-3), np.uint64(2**63 + 5), -4, 2.5, np.longlong(-6), np.int64(-7)]
    assert [ident(x) for x in given] == [-3, 2**63 + 5, -4, 2.5, -6, -7]


def test_tuples_of_other_lengths_do_not_pass_for_each_other() -> None:
    """The parts behind the end of a shorter one would be whatever stands in memory there."""

    def width(numbers: Any) -> Any:
        return len(numbers)

    def inner_width(pair: Any) -> Any:
        return len(pair[1])

    flat: Any = Kernel(width, {}, None)
    nested: Any = Kernel(inner_width, {}, None)
    for length in (3, 2, 1, 4):
        parts = (7,) * length
        assert (flat(parts), nested((0, parts))) == (length, length)
    assert len(flat._pieces) == len(nested._pieces) == 4, "every length has code of its own"


@kernel
def bump(cells: Any, by: float) -> None:
    for i in range(len(cells)):
        cells[i] += by


def unaligned() -> NDArray[np.float64]:
    return np.zeros(25, np.uint8)[1:].view(np.float64)


@pytest.mark.parametrize(
    ("array", "rule"),
    [
        (np.zeros(3, ">f8"), "in the byte order of the processor, got >f8; convert it .*'<f8'"),
        (np.array(["2020"], "M8[s]"), r"arrays, numbers and tuples of them, got an array of datetime64\[s\]"),
        (np.zeros(2, [("a", "i4"), ("b", "O")]), "got an array of .*; convert it"),
        (np.array([None]), "got an array of object"),
        (np.array(["text"]), "got an array of <U4"),
        (np.zeros(2, np.longdouble), "got an array of float128"),
        (unaligned(), "at a multiple of the size of their items.*copy it"),
        (np.str_("text"), "got .*text.* of type str_"),
    ],
)
def test_what_machine_code_cannot_take_is_refused_by_name(array: Any, rule: str) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match=f"^bump, argument cells: a kernel takes .*{rule}"):
            bump(array, 1.0)
        bump(np.zeros(3), 1.0)


def test_an_unaligned_array_inside_a_tuple_is_refused() -> None:
    def first(parts: Any) -> Any:
        return parts[0][0]

    look: Any = Kernel(first, OPTIONS, None)
    assert look((np.ones(3),)) == 1.0
    with pytest.raises(TypeError, match=r"first, argument parts: .*copy it"):
        look((unaligned(),))
    closed = unaligned()
    closed.flags.writeable = False
    assert look((closed,)) == 0.0, "nobody waits for what is written to it"


@pytest.mark.parametrize("given", [(), (np.zeros(1),), (np.zeros(1), 1.0, 2.0)])
def test_too_few_or_too_many_arguments_are_refused_by_name(given: Any) -> None:
    rule = rf"^bump\(cells, by\): the number of arguments must be 2, got {len(given)}$"
    with pytest.raises(TypeError, match=rule):
        bump(*given)


def test_what_the_compiler_refuses_has_the_name_of_the_kernel() -> None:
    with pytest.raises(TypeError, match=r"^total: cannot be compiled for .*2d"):
        Kernel(total, OPTIONS, None)(np.ones((2, 2)))
