"""The cost model: by hand, against a simulation, and its limits."""
import random

import pytest

from rftlab.speculative import cost


def test_expected_tokens_by_hand():
    assert cost.expected_tokens(0.5, 2) == 1.75  # (1 - .5^3) / (1 - .5)
    assert cost.expected_tokens(0.8, 4) == pytest.approx((1 - 0.8**5) / 0.2)
    assert [cost.expected_tokens(a, 3) for a in (0, 1)] == [1, 4] and cost.expected_tokens(0.9, 0) == 1
    with pytest.raises(ValueError, match="from 0 to 1"):
        cost.expected_tokens(1.1, 2)


def test_expected_tokens_is_what_a_simulation_gives():
    rng, k, a, n = random.Random(0), 4, 0.7, 20_000

    def one_pass():
        kept = 0
        while kept < k and rng.random() < a:
            kept += 1
        return kept + 1

    assert sum(one_pass() for _ in range(n)) / n == pytest.approx(cost.expected_tokens(a, k), rel=0.01)


def test_speedup():
    assert cost.speedup(3.0, plain_seconds=10, verify_seconds=12, draft_seconds=3) == 2.0
    assert cost.speedup(cost.expected_tokens(0.0, 4), 10, 12) < 1, "drafts that are never kept only cost"


def test_best_k():
    assert cost.best_k(0.8, [1.0] * 9)[0] == 8, "where a longer pass costs nothing, draft all you can"
    k, gain = cost.best_k(0.8, [1.0 + 0.2 * i for i in range(9)], draft_seconds=0.05)
    assert 1 <= k <= 4 and 1 < gain < cost.expected_tokens(0.8, k)
    assert cost.best_k(0.3, [1.0, 2.0, 3.0]) == (0, 1.0)


def test_roofline():
    weights = {"parameters": 1e9, "bandwidth": 1e12, "flops": 1e14}
    one = cost.pass_seconds(1, 1, **weights)
    assert one == pytest.approx(2e-3) == cost.pass_seconds(10, 10, **weights), "below 100 tokens reading the weights takes longest"
    assert cost.pass_seconds(50, 4, **weights) == pytest.approx(4e-3)
    assert cost.pass_seconds(1, 1, **weights, overhead=1e-3) == pytest.approx(3e-3)


def test_break_even():
    assert cost.break_even_batch([1, 4, 16], [3.0, 1.5, 0.5]) == pytest.approx(8.0)
    assert cost.break_even_batch([1, 4], [3.0, 1.5]) is None
    assert cost.break_even_batch([2, 4], [0.9, 0.5]) == 2.0
    with pytest.raises(ValueError, match="rising"):
        cost.break_even_batch([4, 1], [1, 2])


def test_prices():
    assert cost.price_per_million(1000, 3.6) == pytest.approx(1.0)
    assert [cost.machines_needed(r, 500, 10_000) for r in (1, 20, 21)] == [1, 1, 2]
