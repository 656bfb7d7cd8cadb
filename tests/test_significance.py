"""Paired tests, Holm's correction and power: by hand, against scipy, and by their properties."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rftlab import significance


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.5 become 4 x 0.01, 3 x 0.02, 2 x 0.03 and 0.5; 0.06 twice
    assert significance.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert significance.holm([]) == [] and significance.holm([0.2]) == [0.2]
    with pytest.raises(ValueError, match="between 0 and 1"):
        significance.holm([0.1, 1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.randoms())
def test_holm_lies_between_the_raw_values_and_bonferroni_and_ignores_the_order(p_values, random):
    adjusted = significance.holm(p_values)
    for raw, new in zip(p_values, adjusted, strict=True):
        assert raw - 1e-12 <= new <= min(1.0, len(p_values) * raw) + 1e-12 or new == pytest.approx(max(
            q for p, q in zip(p_values, adjusted) if p <= raw))
    order = list(range(len(p_values)))
    random.shuffle(order)
    assert significance.holm([p_values[i] for i in order]) == pytest.approx([adjusted[i] for i in order])
    ranked = [q for _, q in sorted(zip(p_values, adjusted))]
    assert ranked == sorted(ranked)


def test_holm_keeps_false_alarms_rare_and_raw_values_do_not():
    p_values = np.random.default_rng(0).uniform(size=(2000, 20))
    assert np.mean([min(significance.holm(row)) < 0.05 for row in p_values]) < 0.065
    assert np.mean(p_values.min(1) < 0.05) > 0.5


@settings(deadline=None)
@given(st.floats(-60, 60), st.integers(1, 40))
def test_t_p_value_equals_scipys(t, dof):
    assert significance.t_p_value(t, dof) == pytest.approx(2 * stats.t.sf(abs(t), dof), rel=1e-5, abs=1e-30)


def test_paired_by_hand():
    # differences 1, 2, 3: mean 2, standard deviation 1, standard error 0.577, t = 3.46; t(0.975, 2) = 4.303
    test = significance.paired([1, 2, 3])
    assert (test.mean, test.n) == (2.0, 3)
    assert (test.low, test.high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert test.p == pytest.approx(0.0742, abs=1e-4)
    assert str(test) == "+2.00 [-0.48, +4.48]"


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-6))
def test_paired_equals_scipy(values):
    ours, theirs = significance.paired(values), stats.ttest_1samp(values, 0.0)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-4, abs=1e-12)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-5)
    assert (ours.p < 0.05) == (ours.low > 0 or ours.high < 0) or abs(ours.p - 0.05) < 1e-4


def test_equal_differences_need_a_floor():
    with pytest.raises(ValueError, match="pass floor"):
        significance.paired([0.8] * 3)
    test = significance.paired([0.8] * 3, floor=0.005)
    assert 0 < test.high - test.low < 0.05 and test.p < 1e-3
    assert significance.paired([0.0] * 3, floor=0.005).p == 1.0
    assert significance.paired([0.1, 0.9], floor=0.005) == significance.paired([0.1, 0.9])


def test_one_seed_proves_nothing():
    one = significance.paired([0.9], floor=0.005)
    assert one.p == 1.0 and one.low == -math.inf and one.detectable == math.inf and str(one) == "+0.90, 1 seed"
    with pytest.raises(ValueError, match="no seed in common"):
        significance.paired([])


def test_over_seeds_stays_within_its_bounds():
    one = significance.over_seeds([0.98, 1.0, 0.97])
    assert one.high == 1.0 and one.low < 0.97 and one.n == 3
    assert significance.over_seeds([0.3]).low == 0.0


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("power, alpha", [(0.8, 0.05), (0.5, 0.01), (0.9, 0.05)])
def test_detectable_equals_scipys_noncentral_t(n, power, alpha):
    shift = significance.detectable(2.0, n, power, alpha) / 2.0 * math.sqrt(n)
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    found = stats.nct.sf(critical, n - 1, shift)  # the other tail holds less than 1e-4
    assert found == pytest.approx(power, abs=2e-3)


def test_detectable_is_found_that_often():
    rng, spread, n = np.random.default_rng(0), 0.05, 10
    shift = significance.detectable(spread, n)
    found = [significance.t_p_value(*(lambda v: (v.mean() / v.std(ddof=1) * math.sqrt(n), n - 1))(
        rng.normal(shift, spread, n))) < 0.05 for _ in range(1000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.001, 1), st.integers(2, 20))
def test_detectable_scales_with_the_spread_and_falls_with_seeds(spread, n):
    assert significance.detectable(spread, n) == pytest.approx(spread * significance.detectable(1.0, n))
    assert significance.detectable(spread, n + 1) < significance.detectable(spread, n)
    assert significance.detectable([0.0, spread], n) == pytest.approx(significance.detectable(spread / math.sqrt(2), n))


def test_detectable_rejects():
    assert significance.detectable(0.1, 1) == math.inf
    with pytest.raises(ValueError, match="power"):
        significance.detectable(0.1, 5, power=0.01)
