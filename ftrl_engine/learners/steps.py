"""What the steps of several learners share: rates, and the shrinkage that L1 brings."""

from __future__ import annotations

import math

from ftrl_engine.jit import inlined

# With beta = 0 a gradient whose square underflows leaves n at 0, and w must stay finite.
LEAST_SCALE = 1e-150


@inlined
def falling_rate(alpha: float, power: float, t: float) -> float:
    """eta_t = alpha / (1 + t)^power, one rate for all slots; t counts the steps before this one."""
    fall: float = (1.0 + t) ** power
    return alpha / fall


@inlined
def adaptive_rate(alpha: float, beta: float, n: float) -> float:
    """eta = alpha / (beta + sqrt n), the rate of one slot; n is the sum of its squared gradients."""
    return alpha / max(beta + math.sqrt(n), LEAST_SCALE)


@inlined
def shrunk(w: float, by: float) -> float:
    """sgn(w) max(0, |w| - by): the arg-min over v of (v - w)^2 / 2 + by |v|."""
    rest = abs(w) - by
    return math.copysign(rest, w) if rest > 0.0 else 0.0


@inlined
def grown(w: float, by: float) -> float:
    """w + sgn(w) by: what shrinks to w when it is shrunk by as much."""
    return w + math.copysign(by, w)
