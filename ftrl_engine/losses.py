"""Logistic loss of one event, computed from the margin.

With margin s = w.x, label y in {0, 1} and p = 1 / (1 + exp(-s))::

    loss(s, y)     = -y log p - (1 - y) log(1 - p) = log(1 + exp(-|s|)) + max(s, 0) - y s
    d loss / d s   = p - y

All three are float64 scalar functions that other kernels call; none overflows for any
finite margin, and the loss is never taken from a clipped or rounded probability.
"""

from __future__ import annotations

import math

from ftrl_engine.jit import inlined


@inlined
def sigmoid(margin: float) -> float:
    """1 / (1 + exp(-margin)), in [0, 1]; keeps its relative precision down to the smallest float."""
    # exp of a negative number only: it may underflow to 0, which is the right limit.
    decay = math.exp(-abs(margin))
    return (1.0 if margin >= 0.0 else decay) / (1.0 + decay)


@inlined
def log_loss(margin: float, label: float) -> float:
    """-log of the probability given to ``label`` (0.0 or 1.0), in nats, at least 0."""
    # The linear part comes first: it is exactly 0 when the sign is right, so a tiny loss survives.
    linear = max(margin, 0.0) - label * margin
    return linear + math.log1p(math.exp(-abs(margin)))


@inlined
def log_loss_gradient(margin: float, label: float) -> float:
    """d log_loss / d margin = sigmoid(margin) - label, in [-1, 1]."""
    return sigmoid(margin) - label
