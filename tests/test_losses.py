"""sigmoid, log_loss and log_loss_gradient against 60-digit decimal arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ftrl_engine.jit import kernel
from ftrl_engine.losses import log_loss, log_loss_gradient, sigmoid

DIGITS = Context(prec=400, Emin=-999999, Emax=999999)
NORMAL = 2.3e-308  # below it float64 has fewer than 53 bits

margins = st.floats(-800, 800) | st.floats(-40, 40) | st.floats(-1e-6, 1e-6)
labels = st.sampled_from([0.0, 1.0])


def exact_sigmoid(margin: float) -> float:
    with localcontext(DIGITS) as context:
        context.prec = 60
        return float(1 / (1 + (-Decimal(margin)).exp()))


def exact_log_loss(margin: float, label: float) -> float:
    """-ln of the probability of the label; 400 digits, so that 1 - exp(-800) is not yet 1."""
    towards = Decimal(margin) if label == 1.0 else -Decimal(margin)
    with localcontext(DIGITS):
        small = (-towards).exp()
        if small < Decimal("1e-30"):
            return float(small - small * small / 2)
    with localcontext(DIGITS) as context:
        context.prec = 60
        return float((1 + small).ln())


@given(margins)
def test_sigmoid_is_exact_to_a_few_units_in_the_last_place(margin: float) -> None:
    assert sigmoid(margin) == pytest.approx(exact_sigmoid(margin), rel=1e-15, abs=NORMAL)


@given(margins, labels)
def test_log_loss_is_exact_to_a_few_units_in_the_last_place(margin: float, label: float) -> None:
    assert log_loss(margin, label) == pytest.approx(exact_log_loss(margin, label), rel=1e-15, abs=NORMAL)


def test_log_loss_of_a_confident_right_answer_is_not_rounded_away() -> None:
    assert log_loss(30.0, 1.0) == pytest.approx(math.exp(-30.0), rel=1e-12)
    assert log_loss(-700.0, 0.0) == pytest.approx(math.exp(-700.0), rel=1e-12)


@pytest.mark.parametrize("margin", [1e3, 1e308])
def test_huge_margins_do_not_overflow(margin: float) -> None:
    assert (sigmoid(margin), sigmoid(-margin)) == (1.0, 0.0)
    assert (log_loss(margin, 1.0), log_loss(-margin, 0.0)) == (0.0, 0.0)
    assert (log_loss(margin, 0.0), log_loss(-margin, 1.0)) == (margin, margin)
    assert (log_loss_gradient(margin, 0.0), log_loss_gradient(-margin, 1.0)) == (1.0, -1.0)


@given(margins)
def test_swapping_the_label_mirrors_the_loss_exactly(margin: float) -> None:
    assert log_loss(margin, 1.0) == log_loss(-margin, 0.0)


@given(st.floats(-20, 20), labels)
def test_gradient_is_the_slope_of_the_loss(margin: float, label: float) -> None:
    step = 1e-4
    slope = (log_loss(margin + step, label) - log_loss(margin - step, label)) / (2 * step)
    assert log_loss_gradient(margin, label) == pytest.approx(slope, abs=1e-8)
    assert log_loss_gradient(margin, label) == sigmoid(margin) - label


@pytest.mark.parametrize("function", [sigmoid, log_loss, log_loss_gradient])
def test_compiled_and_plain_python_agree(function: Callable[..., float]) -> None:
    plain: Any = getattr(function, "py_func", function)
    more = () if function is sigmoid else (1.0,)
    for margin in np.linspace(-745.0, 745.0, 2001):
        assert function(margin, *more) == pytest.approx(plain(float(margin), *more), rel=1e-15, abs=NORMAL)


@kernel
def total_loss(margins: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    total = 0.0
    for i in range(margins.size):
        total += log_loss(margins[i], labels[i]) + log_loss_gradient(margins[i], labels[i])
    return total


def test_other_kernels_can_call_them() -> None:
    found = total_loss(np.array([0.0, 2.0]), np.array([1.0, 0.0]))
    assert found == pytest.approx(math.log(2) - 0.5 + math.log1p(math.exp(2)) + exact_sigmoid(2.0), rel=1e-15)
