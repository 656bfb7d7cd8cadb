import dataclasses
import itertools
import math
from statistics import mean
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rftlab import evaluate
from rftlab.evaluate import Estimate
from rftlab.tasks import Problem

# --- Estimate ---


def test_estimate_prints_and_makes_the_round_trip():
    one = Estimate(0.4249, 0.3549, 0.4949, 200)
    assert str(one) == "0.42 [0.35, 0.49] n=200"
    assert one.to_dict() == {"mean": 0.4249, "low": 0.3549, "high": 0.4949, "n": 200}
    assert Estimate.from_dict(one.to_dict()) == one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.mean = 0.5
    with pytest.raises(ValueError, match="mean, low, high and n"):
        Estimate.from_dict({"mean": 1.0})


# --- 0/1 data ---


def test_wilson_by_hand():
    # z = 1.96, n = 10, no success: low 0, high z^2 / (n + z^2) = 3.8416 / 13.8416 = 0.2775
    one = evaluate.wilson(0, 10)
    assert (one.mean, one.low) == (0.0, 0.0) and one.high == pytest.approx(0.2775, abs=1e-4)


@settings(deadline=None)
@given(st.integers(1, 300), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_scipy(n, data, confidence):
    c = data.draw(st.integers(0, n))
    expected = stats.binomtest(c, n).proportion_ci(confidence, method="wilson")
    for ours in (evaluate.wilson(c, n, confidence), evaluate.bootstrap([1.0] * c + [0.0] * (n - c), confidence)):
        assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert ours.mean == c / n and ours.n == n
        assert ours.low <= ours.mean <= ours.high and ours.low < ours.high


def test_all_wrong_and_all_right_keep_a_width():
    assert evaluate.bootstrap([0.0] * 20).high > 0.1
    assert evaluate.bootstrap([1.0] * 20).low < 0.9
    assert evaluate.bootstrap([1]).low < 0.5  # one lucky answer proves little


# --- other data ---


def test_many_values_equal_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).beta(2, 5, size=200)
    ours = evaluate.bootstrap(values, resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.001)


def test_few_values_equal_scipys_student_t():
    values = [0.31, 0.35, 0.28, 0.40, 0.33]
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    ours = evaluate.bootstrap(values, confidence=0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 9, 18])
@pytest.mark.parametrize("p", [0.75, 0.95, 0.975, 0.995])
def test_t_quantile_equals_scipys(p, dof):
    assert evaluate.t_quantile(p, dof) == pytest.approx(stats.t.ppf(p, dof), rel=1e-6)


def test_few_values_cover_the_truth_where_the_percentile_bootstrap_does_not():
    rng = np.random.default_rng(0)
    covered = {"ours": 0, "percentile": 0}
    for _ in range(400):
        values = rng.normal(0.0, 1.0, size=4)
        ours = evaluate.bootstrap(values, bounds=(-math.inf, math.inf))
        means = values[rng.integers(0, 4, (400, 4))].mean(1)
        low, high = np.quantile(means, (0.025, 0.975))
        covered["ours"] += ours.low <= 0 <= ours.high
        covered["percentile"] += low <= 0 <= high
    assert covered["ours"] / 400 > 0.92 and covered["percentile"] / 400 < 0.87


def test_equal_values_leave_room_for_others():
    one = evaluate.bootstrap([0.5] * 30)
    share = 1 - 0.05 ** (1 / 30)  # 9.5 %, close to 3 / 30
    assert one.mean == 0.5
    assert (one.low, one.high) == pytest.approx((0.5 - share / 2, 0.5 + share / 2))
    alone = evaluate.bootstrap([0.3])
    assert alone.low < 0.02 and alone.high > 0.96


def test_bounds():
    assert evaluate.bootstrap([12.0, 30.0, 31.0], bounds=(0, 32)).high == 32
    assert evaluate.bootstrap([0.9, 0.99, 1.0]).high == 1.0
    with pytest.raises(ValueError, match="pass bounds"):
        evaluate.bootstrap([12.0, 30.0])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(0, 5))
def test_interval_is_ordered_bounded_and_seeded(values, seed):
    one = evaluate.bootstrap(values, resamples=200, seed=seed)
    assert 0.0 <= one.low <= one.high <= 1.0
    assert one.low - 1e-9 <= one.mean <= one.high + 1e-9 and one.n == len(values)
    assert one == evaluate.bootstrap(values, resamples=200, seed=seed)


@pytest.mark.parametrize(
    "values, options, message",
    [
        ([], {}, "at least one number"),
        ([[0.1, 0.2]], {}, "at least one number"),
        ([0.1, math.nan], {}, "NaN"),
        ([0.1], {"confidence": 95}, "0.95"),
    ],
)
def test_bootstrap_rejects(values, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate.bootstrap(values, **options)


# --- paired differences ---


def test_pairing_cancels_what_both_share():
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.1, 0.8, size=60)
    a, b = hard + 0.05 + rng.normal(0, 0.01, 60), hard
    paired = evaluate.difference(a, b)
    assert paired.mean == pytest.approx((a - b).mean()) and paired.n == 60
    assert paired.low > 0.04 and paired.high < 0.06
    # Unpaired, the spread of the problems would hide a gap of 0.05.
    assert evaluate.bootstrap(a).low < evaluate.bootstrap(b).high


def test_difference_is_antisymmetric_and_agrees_with_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2, 100), rng.integers(0, 2, 100)
    forth, back = evaluate.difference(a, b, resamples=20_000), evaluate.difference(b, a, resamples=20_000)
    assert forth.mean == -back.mean
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=1e-9)
    theirs = stats.bootstrap(
        (a, b), lambda x, y: np.mean(x) - np.mean(y), paired=True, vectorized=False, n_resamples=5000,
        method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert (forth.low, forth.high) == pytest.approx((theirs.low, theirs.high), abs=0.011)


def test_no_difference_anywhere_still_has_a_width():
    same = evaluate.difference([1, 0, 1] * 10, [1, 0, 1] * 10)
    assert same.mean == 0.0 and same.low < -0.05 and same.high > 0.05


def test_two_lucky_problems_are_no_significant_difference():
    """0/1 differences without a loss must not be taken for shares: Wilson's interval could never contain 0."""
    a, b = [1.0] * 2 + [0.0] * 198, [0.0] * 200
    assert evaluate.difference(a, b).low == 0.0


def test_difference_needs_pairs():
    with pytest.raises(ValueError, match="same problems or seeds"):
        evaluate.difference([1, 0], [1])


# --- pass@k ---


@pytest.mark.parametrize("n, c, k", [(n, c, k) for n in range(1, 8) for c in range(n + 1) for k in range(1, n + 1)])
def test_pass_at_k_equals_enumeration(n, c, k):
    samples = [True] * c + [False] * (n - c)
    draws = list(itertools.combinations(samples, k))
    assert evaluate.pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@settings(deadline=None)
@given(st.integers(1, 2000), st.data())
def test_pass_at_k_is_stable_and_monotone(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    value = evaluate.pass_at_k(n, c, k)
    assert value == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k), abs=1e-12)
    assert 0.0 <= value <= 1.0
    assert evaluate.pass_at_k(n, c, 1) == pytest.approx(c / n)
    if k < n:
        assert evaluate.pass_at_k(n, c, k + 1) >= value - 1e-12


def test_pass_at_k_is_unbiased_and_the_naive_formula_is_not():
    p, n, k = 0.2, 5, 3
    weights = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    truth = 1 - (1 - p) ** k
    assert sum(w * evaluate.pass_at_k(n, c, k) for c, w in enumerate(weights)) == pytest.approx(truth)
    assert sum(w * (1 - (1 - c / n) ** k) for c, w in enumerate(weights)) < truth - 0.02


@pytest.mark.parametrize("n, c, k", [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_pass_at_k_rejects(n, c, k):
    with pytest.raises(ValueError, match="1 <= k <= n"):
        evaluate.pass_at_k(n, c, k)


# --- policies ---


class Echo:
    """A policy that answers the question, and remembers how it was asked."""

    def generate(self, prompts, max_new_tokens, temperature):
        self.asked = (max_new_tokens, temperature)
        return [prompt.upper() for prompt in prompts]


PROBLEMS = [Problem(prompt, answer) for prompt, answer in [("a", "A"), ("b", "x"), ("c", "C"), ("d", "D")]]
TASK = SimpleNamespace(reward=lambda text, problem: float(text == problem.answer))


def test_accuracy_is_greedy_and_in_order():
    policy = Echo()
    assert evaluate.scores(policy, TASK, PROBLEMS, max_new_tokens=5) == [1.0, 0.0, 1.0, 1.0]
    assert policy.asked == (5, 0.0)
    assert evaluate.accuracy(policy, TASK, PROBLEMS) == evaluate.wilson(3, 4)
    with pytest.raises(ValueError, match="task.test"):
        evaluate.accuracy(policy, TASK, [])


def test_pass_rates_group_the_completions_by_problem(monkeypatch):
    rollout = pytest.importorskip("rftlab.rollout")
    calls = []

    def fake(policy, prompts, **options):
        calls.append(options)
        # Problem-major: the first problem is solved by 2 of 4 samples, the second by none, the others by all.
        right = {"a": ["A", "?", "A", "?"], "b": ["?"] * 4, "c": ["C"] * 4, "d": ["D"] * 4}
        return SimpleNamespace(texts=[text for prompt in prompts for text in right[prompt]])

    monkeypatch.setattr(rollout, "rollout", fake)
    rates = evaluate.pass_rates(None, TASK, PROBLEMS, samples=4, ks=(1, 2, 4), seed=7, max_new_tokens=9)
    assert calls == [{"group_size": 4, "max_new_tokens": 9, "temperature": 1.0, "seed": 7}]
    assert rates[1].mean == pytest.approx(mean([0.5, 0, 1, 1]))
    assert rates[2].mean == pytest.approx(mean([1 - 1 / 6, 0, 1, 1]))
    assert rates[4] == evaluate.wilson(3, 4)


@pytest.mark.parametrize("problems, ks", [([], (1,)), (PROBLEMS, (1, 8)), (PROBLEMS, (0, 1)), (PROBLEMS, ())])
def test_pass_rates_reject(problems, ks):
    with pytest.raises(ValueError, match="raise samples"):
        evaluate.pass_rates(None, TASK, problems, samples=4, ks=ks)
