"""How good a policy is, and how sure we are: accuracy, pass@k, and 95 % intervals.

An interval here is one of four, whichever is right for the data:

- 0/1 data (one verifier reward a problem): Wilson's score interval (Wilson 1927). It keeps a width when all answers are
  wrong or all are right, and holds its level for small n, which the textbook interval does not (Brown, Cai and DasGupta
  2001, Interval Estimation for a Binomial Proportion).
- otherwise, fewer than FEW values (one accuracy a seed): Student's t. The percentile bootstrap is too narrow there: of
  its "95 %" intervals from five normal values 84 % hold the truth, from three values 75 %.
- otherwise: the percentile bootstrap (Efron and Tibshirani 1993, chapter 13).
- all values equal, and not 0 or 1: any resample gives zero width. But n equal values leave room for a share of up to
  1 - (1 - confidence)^(1/n) of others, about 3/n (the rule of three, Hanley and Lippman-Hand 1983), which may lie
  anywhere within the bounds.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

FEW = 20  # values; from here on the percentile bootstrap covers at least 92 %, measured on normal values


@dataclass(frozen=True)
class Estimate:
    """A mean of n values, and its confidence interval from low to high."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}] n={self.n}"

    def to_dict(self) -> dict:
        """Return {mean, low, high, n}, the form that a run record keeps."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entry: dict) -> "Estimate":
        """Return the estimate of such a dict; raises ValueError for other keys."""
        if set(entry) != {"mean", "low", "high", "n"}:
            raise ValueError(f"an estimate has the keys mean, low, high and n, got {sorted(entry)}")
        return cls(**entry)


def bootstrap(
    values: Sequence[float],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """Return the mean of independent values and its interval, by the method that the module docstring says.

    `bounds` are the lowest and highest possible value; an interval never leaves them. Values are independent when one
    does not tell you about the next: one for each problem of one run, or one for each seed, not problems pooled over
    seeds. Raises ValueError for no values, NaN, values outside the bounds, or a confidence outside 0 to 1.
    """
    values = _checked(values, confidence, bounds)
    if bounds == (0.0, 1.0) and np.isin(values, (0.0, 1.0)).all():
        return wilson(int(values.sum()), len(values), confidence)
    return _interval(values, confidence, resamples, seed, bounds)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return successes / n and its score interval (Wilson 1927; equation 4 of Brown, Cai and DasGupta 2001).

    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"got {successes} successes of n={n}: expected 0 <= successes <= n and n >= 1")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Exactly 0 and 1 at the ends, where rounding would leave 1e-17.
    low, high = (0.0 if successes == 0 else center - half), (1.0 if successes == n else center + half)
    return Estimate(p, low, high, n)


def difference(
    a: Sequence[float],
    b: Sequence[float],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> Estimate:
    """Return the mean of a - b and its interval, paired: a[i] and b[i] belong to the same problem, or the same seed.

    Pairs are resampled whole, so that what both arms share (a hard problem, a lucky seed) cancels. An interval that
    contains 0 is no significant difference. With several runs an arm, pass one number a run: problems of one
    run share its luck and are not independent. Raises ValueError for unequal lengths, and as `bootstrap` does.
    """
    if len(a) != len(b):
        raise ValueError(
            f"got {len(a)} and {len(b)} values: a paired difference needs both for the same problems or seeds, "
            "in the same order"
        )
    differences = _checked(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), confidence, bounds)
    return _interval(differences, confidence, resamples, seed, bounds)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the chance that at least one of k samples is right, given that c of n were: 1 - C(n-c, k) / C(n, k).

    The unbiased estimate of Chen et al. 2021 (Codex), equation 1, as their stable product. Plugging c/n into
    1 - (1 - p)^k instead is biased low. Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"got n={n}, c={c}, k={k}: expected 0 <= c <= n and 1 <= k <= n; a larger k needs a larger n")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def scores(policy, task, problems: Sequence, max_new_tokens: int = 32) -> list[float]:
    """Return the verifier's reward for the policy's greedy completion of each of B problems, in order.

    Raises ValueError for no problems.
    """
    if not problems:
        raise ValueError("got no problems to evaluate on: pass some, for example task.test(200)")
    completions = policy.generate([one.prompt for one in problems], max_new_tokens=max_new_tokens, temperature=0.0)
    return [task.reward(text, one) for text, one in zip(completions, problems, strict=True)]


def accuracy(policy, task, problems: Sequence, max_new_tokens: int = 32, confidence: float = 0.95) -> Estimate:
    """Return the share of problems that the policy solves with greedy decoding; raises ValueError for no problems.

    The interval says how the share would vary over other problems of the task. How it varies over training seeds it
    cannot know. To compare two policies, pass their `scores` to `difference`.
    """
    rewards = scores(policy, task, problems, max_new_tokens)
    return bootstrap(rewards, confidence, bounds=bounds_of(rewards))


def bounds_of(*rewards: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and highest that a reward could be: 0 and 1 as for a verifier, unless these say otherwise."""
    widest = max(abs(value) for one in rewards for value in one)
    return (0.0, 1.0) if widest <= 1 and min(map(min, rewards)) >= 0 else (-widest, widest)


def pass_rates(
    policy,
    task,
    problems: Sequence,
    samples: int = 64,
    ks: Sequence[int] = (1, 4, 16, 64),
    seed: int = 0,
    max_new_tokens: int = 32,
    temperature: float = 1.0,
) -> dict[int, Estimate]:
    """Return pass@k for each k: the mean over problems of `pass_at_k`, from `samples` completions a problem.

    The intervals are over problems. A reward of 1.0 counts as right. Raises ValueError for no problems or a k above
    `samples`.
    """
    if not problems or not ks or not 1 <= min(ks) <= max(ks) <= samples:
        raise ValueError(
            f"got {len(problems)} problems, ks={tuple(ks)} and samples={samples}: expected at least one problem, and "
            "each k from 1 to samples; raise samples for a larger k"
        )
    right = right_counts(policy, task, problems, samples, seed, max_new_tokens, temperature)
    return {k: bootstrap([pass_at_k(samples, c, k) for c in right], seed=seed) for k in ks}


def right_counts(policy, task, problems: Sequence, samples: int, seed: int = 0, max_new_tokens: int = 32,
                 temperature: float = 1.0) -> list[int]:
    """Return for each problem how many of `samples` completions earn 1.0. Raises ValueError for no problems."""
    from rftlab.rollout import rollout

    if not problems:
        raise ValueError("got no problems to sample on: pass some, for example task.test(16)")
    prompts = [one.prompt for one in problems]
    texts = rollout(
        policy, prompts, group_size=samples, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    ).texts
    groups = [texts[i : i + samples] for i in range(0, len(texts), samples)]
    return [sum(task.reward(text, one) == 1.0 for text in group) for group, one in zip(groups, problems, strict=True)]


def __getattr__(name: str):
    if name in ("advise", "probe"):  # they read the records, and this module is needed to make them
        from rftlab import advice

        return getattr(advice, name)
    raise AttributeError(f"module 'rftlab.evaluate' has no attribute {name!r}")


def _checked(values: Sequence[float], confidence: float, bounds: tuple[float, float]) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"got values of shape {values.shape}: expected a list of at least one number")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"got confidence={confidence}: expected a number between 0 and 1, such as 0.95")
    low, high = bounds
    if not ((values >= low) & (values <= high)).all():  # also false for NaN
        raise ValueError(
            f"got values from {values.min()} to {values.max()}, outside the bounds {bounds}: pass bounds=(lowest, "
            "highest) possible value, and no NaN"
        )
    return values


def _interval(
    values: np.ndarray, confidence: float, resamples: int, seed: int, bounds: tuple[float, float]
) -> Estimate:
    n, mean = len(values), float(values.mean())
    tail = (1 - confidence) / 2
    if (values == values[0]).all():
        share = 1 - (1 - confidence) ** (1 / n)
        low, high = mean - share * (mean - bounds[0]), mean + share * (bounds[1] - mean)
    elif n < FEW:
        half = t_quantile(1 - tail, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
        low, high = mean - half, mean + half
    else:
        rng = np.random.default_rng(seed)
        means = [values[rng.integers(0, n, n)].mean() for _ in range(resamples)]
        low, high = np.quantile(means, (tail, 1 - tail))
    return Estimate(mean, max(float(low), bounds[0]), min(float(high), bounds[1]), n)


def t_quantile(p: float, dof: int) -> float:
    """Return the p-quantile of Student's t with `dof` degrees of freedom, for p from 0.5, to 6 digits.

    With t = sqrt(dof) tan(angle) the density becomes cos(angle)^(dof - 1) on 0 to pi/2, which is summed and inverted.
    """
    angle = np.linspace(0.0, np.pi / 2, 200_001)
    density = np.cos(angle) ** (dof - 1)
    mass = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    return math.sqrt(dof) * math.tan(np.interp(2 * p - 1, mass / mass[-1], angle))
