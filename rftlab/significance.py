"""Do two arms differ, and what difference could so few seeds have shown? Paired t tests, Holm's correction, power.

One number a run goes in: its held-out accuracy, say. Two runs with the same seed had the same training problems and are a
pair. The intervals are about training luck; all runs share the test problems, whose luck cancels in a difference and not in a
mean.

Equal values over seeds have a standard deviation of 0, and an interval of no width. An accuracy on N problems moves in steps
of 1/N, so a spread below that cannot be seen: `floor` takes it for one step.
"""
import functools
import math
from dataclasses import dataclass

import numpy as np

from rftlab.evaluate import Estimate, t_quantile

_quantile = functools.lru_cache(maxsize=None)(t_quantile)  # it sums 200,000 numbers


@dataclass(frozen=True)
class Paired:
    """The mean of paired differences over n seeds, its interval, and the two-sided p of the t test that it is 0.

    detectable: the smallest true difference that so many seeds with this spread find in 80 of 100 cases. One seed has no
    interval: low and high are infinite, p is 1.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float
    detectable: float

    def __str__(self) -> str:
        if self.n < 2:
            return f"{self.mean:+.2f}, 1 seed"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def paired(differences, floor: float = 0.0, confidence: float = 0.95) -> Paired:
    """Return the paired t test of the differences, one a seed; `floor` as in the module docstring.

    Raises ValueError for no differences, or for two and more equal ones without a floor.
    """
    values = np.asarray(list(differences), dtype=float)
    n = len(values)
    if not n:
        raise ValueError("got no differences: the two arms have no seed in common")
    mean = float(values.mean())
    if n == 1:
        return Paired(mean, -math.inf, math.inf, 1, 1.0, math.inf)
    spread = max(float(values.std(ddof=1)), floor)
    if spread < 1e-12:
        raise ValueError(f"all {n} differences are {mean:g}: pass floor=, the smallest step of what was measured")
    error = spread / math.sqrt(n)
    half = _quantile((1 + confidence) / 2, n - 1) * error
    return Paired(mean, mean - half, mean + half, n, t_p_value(mean / error, n - 1), detectable(spread, n, alpha=1 - confidence))


def over_seeds(values, floor: float = 0.0, bounds=(0.0, 1.0)) -> Estimate:
    """Return the mean over seeds and its 95 % t interval within the bounds; one seed leaves everything possible."""
    test = paired(values, floor)
    return Estimate(test.mean, max(test.low, bounds[0]), min(test.high, bounds[1]), test.n)


def t_p_value(t: float, dof: int) -> float:
    """Return the chance of a Student's t at least this far from 0, on both sides.

    With t = sqrt(dof) tan(angle) the density is cos(angle)^(dof - 1), whose tail is summed by Simpson's rule.
    """
    low = math.atan(abs(t) / math.sqrt(dof))
    angles = np.linspace(low, math.pi / 2, 4001)
    density = np.cos(angles) ** (dof - 1)
    tail = (density[0] + density[-1] + 4 * density[1::2].sum() + 2 * density[2:-1:2].sum()) * (angles[1] - angles[0]) / 3
    whole = math.sqrt(math.pi) / 2 * math.exp(math.lgamma(dof / 2) - math.lgamma((dof + 1) / 2))
    return min(1.0, float(tail) / whole)


def holm(p_values) -> list[float]:
    """Return the p-values adjusted for their number, in the same order (Holm 1979).

    The smallest is multiplied by their number m, the next by m - 1, and so on; none falls below its predecessor. Whoever
    calls those below 0.05 real is wrong about any of them in at most 5 of 100 such families. Raises ValueError outside 0 to 1.
    """
    p_values = [float(p) for p in p_values]
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie between 0 and 1, got {[p for p in p_values if not 0 <= p <= 1]}")
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def detectable(spread, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest true mean difference that a paired t test with n seeds finds with this power.

    spread: the standard deviation of the differences, or the differences themselves. Infinite for one seed. Raises
    ValueError unless 0 < alpha < power < 1.
    """
    if not 0 < alpha < power < 1:
        raise ValueError(f"got power={power} and alpha={alpha}: expected 0 < alpha < power < 1")
    if n < 2:
        return math.inf
    if np.ndim(spread):
        spread = float(np.std(np.asarray(spread, dtype=float), ddof=1))
    return float(spread) / math.sqrt(n) * _shift(n - 1, power, alpha)


@functools.lru_cache(maxsize=None)
def _shift(dof: int, power: float, alpha: float) -> float:
    """How many standard errors from 0 the truth must be: found by bisection on the power of the test."""
    low, high = 0.0, 1.0
    while _power(high, dof, alpha) < power:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _power(middle, dof, alpha) < power else (low, middle)
    return high


def _power(shift: float, dof: int, alpha: float) -> float:
    """The chance that |t| passes its critical value when the truth is `shift` standard errors from 0.

    t = (Z + shift) / s, where dof s^2 is chi-squared: the normal probability, averaged over s.
    """
    critical = _quantile(1 - alpha / 2, dof)
    s = np.linspace(1e-6, 1 + 12 / math.sqrt(dof), 2000)
    log_density = (dof - 1) * np.log(s) - dof * s * s / 2
    weight = np.exp(log_density - log_density.max())
    normal = np.array([math.erfc((critical * x - shift) / math.sqrt(2)) + math.erfc((critical * x + shift) / math.sqrt(2))
                       for x in s]) / 2
    return float((weight * normal).sum() / weight.sum())
