import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl_reference import build_trainer

from rftlab.advantages import batch_level, group_relative, leave_one_out, most_different, zero_variance

NAN = math.nan
ALL = [group_relative, lambda r: group_relative(r, normalize_std=False), leave_one_out, batch_level]
IDS = ["group_relative", "group_relative without std", "leave_one_out", "batch_level"]
every = pytest.mark.parametrize("advantage", ALL, ids=IDS)


def close(actual, expected, tolerance=1e-6):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=tolerance, rtol=tolerance)


# --- by hand ----------------------------------------------------------------------------------------------------------

def test_one_right_of_four():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    # Mean 1/4; sum of squares 9/16 + 3/16 = 3/4, over n - 1 = 3 is 1/4: standard deviation 1/2.
    close(group_relative(rewards, eps=0.0), [[1.5, -0.5, -0.5, -0.5]])
    close(group_relative(rewards), [[0.75 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001]])
    close(group_relative(rewards, normalize_std=False), [[0.75, -0.25, -0.25, -0.25]])
    # The right one against three zeros: 1 - 0. A wrong one against 1, 0, 0: 0 - 1/3.
    close(leave_one_out(rewards), [[1.0, -1 / 3, -1 / 3, -1 / 3]])


def test_batch_level_uses_one_standard_deviation_for_all_groups():
    rewards = torch.tensor([[1.0, 0.0], [4.0, 3.0]])
    # All four: mean 2, squares 1 + 4 + 4 + 1 = 10, over 3.
    std = math.sqrt(10 / 3)
    close(batch_level(rewards, eps=0.0), [[0.5 / std, -0.5 / std], [0.5 / std, -0.5 / std]])
    close(batch_level(rewards, eps=0.5)[0, 0], 0.5 / (std + 0.5))


def test_the_std_lifts_the_unanimous_group_and_the_batch_does_not():
    """What Dr. GRPO and Lite PPO object to: 1 of 8 wrong weighs more per completion than 4 of 8 wrong."""
    rewards = torch.tensor([[0.0] + [1.0] * 7, [0.0] * 4 + [1.0] * 4])
    assert group_relative(rewards)[0, 0] < -2.4 < -0.94 < group_relative(rewards)[1, 0] < -0.93
    assert batch_level(rewards)[0, 0] / batch_level(rewards)[1, 0] == pytest.approx(0.875 / 0.5)


def test_most_different_by_hand():
    rewards = torch.tensor([[0.5, 0.0, 1.0, 0.6, 0.2], [0.0, 0.0, 1.0, 0.0, 0.0], [NAN, 0.0, 1.0, NAN, 0.5]])
    a, half = most_different(rewards, keep=2, eps=0.0), math.sqrt(0.5)
    close(a[0], [0, -half, half, 0, 0])  # the best and the worst: deviations of 1/2, standard deviation sqrt(1/2)
    assert a[1, 2] == pytest.approx(half) and (a[1] != 0).sum() == 2  # one of the equal zeros stands for all
    close(a[2], [0, -half, half, 0, 0])
    # Of {0, .2, .5, .6, 1} the three that vary most are 0, .2 and 1 (or 0, .6, 1, which vary less).
    close(most_different(rewards, keep=3, normalize_std=False)[0], [0, -0.4, 0.6, 0, -0.2])
    close(most_different(rewards, keep=5), group_relative(rewards))
    assert (most_different(torch.full((2, 8), 1000.1)) == 0).all()
    close(most_different(torch.tensor([[NAN, 1.0, NAN], [NAN] * 3])), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="at least 2"):
        most_different(rewards, keep=1)


@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.6, 1.0]), min_size=4, max_size=8), st.integers(2, 4))
def test_no_other_choice_varies_more(group, keep):
    from itertools import combinations

    advantages = most_different(torch.tensor([group]), keep=keep, normalize_std=False)[0]
    best = max(torch.tensor(c).var(unbiased=False) for c in combinations(group, keep))
    assert float(advantages.square().sum() / keep) == pytest.approx(float(best), abs=1e-6)


def test_zero_variance_by_hand():
    rewards = torch.tensor([[1.0, 1, 1], [0, 0, 0], [0, 0, 1e-3], [NAN, 1, 1], [NAN, NAN, 1], [NAN] * 3, [NAN, 0, 1]])
    assert zero_variance(rewards).tolist() == [True, True, False, True, True, True, False]


@pytest.mark.parametrize("reward", [0.1, 0.3, 1000.1, -1e6 / 3])
@every
def test_a_constant_group_gives_exactly_zero(advantage, reward):
    """Naively 1000.1 eight times gives 0.37: the rounding error of the mean, divided by itself plus eps."""
    rewards = torch.full((2, 8), reward)
    assert (advantage(rewards) == 0).all() and zero_variance(rewards).all()
    rewards[0, 0] += 1
    assert (advantage(rewards)[1] == 0).all() and (advantage(rewards)[0] != 0).all()


# --- ungraded completions ---------------------------------------------------------------------------------------------

@every
def test_an_ungraded_completion_gets_zero_and_does_not_move_its_siblings(advantage):
    graded, holed = torch.tensor([[1.0, 0, 0.5], [0, 1, 1]]), torch.tensor([[1.0, NAN, 0, 0.5], [0, 1, 1, NAN]])
    result = advantage(holed)
    assert (result[holed.isnan()] == 0).all()
    close(result[~holed.isnan()], advantage(graded).flatten())


@every
def test_groups_with_one_or_no_graded_completion_give_zero(advantage):
    close(advantage(torch.tensor([[NAN, 1.0, NAN], [NAN] * 3])), torch.zeros(2, 3))


# --- against TRL ------------------------------------------------------------------------------------------------------

REWARDS = {
    "binary": [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]],
    "ladder": [[0.2, 0.5, 0.6, 1.0], [0.0, 0.2, 0.2, 0.0], [0.6, 0.6, 0.6, 0.6]],
    "ungraded": [[1, None, 0, 1], [None, None, None, 0.5], [None, 0.2, None, 0.6]],
    "shifted": [[101.0, 100.5, 100.25, 100.0], [-50, -49, -48, -40], [3, 3, 3, 3]],
}


@pytest.fixture(scope="module")
def trl_advantages(tmp_path_factory):
    """f(kind, rewards, **attributes): the advantages that a TRL trainer gives completions that earn these rewards."""
    rewards_now, trainers = [], {}

    def reward_func(prompts, completions, **columns):
        return list(rewards_now)

    def run(kind, rewards, **attributes):
        if kind not in trainers:
            trainers[kind] = build_trainer(kind, tmp_path_factory.mktemp(kind), reward_func)
        trainer = trainers[kind]
        for name, value in attributes.items():
            assert hasattr(trainer, name)
            setattr(trainer, name, value)
        if kind == "rloo":  # its fused kernel runs on a GPU only, and advantages do not depend on log-probabilities
            trainer._get_per_token_logps_and_entropies = lambda model, ids, mask, keep, *args, **kwargs: (
                torch.zeros(len(ids), keep), None, None)
        rewards_now[:] = [reward for group in rewards for reward in group]
        return trainer._generate_and_score_completions([{"prompt": "ab"}] * 12)["advantages"].view(3, 4)

    return run


@pytest.mark.parametrize("rewards", REWARDS.values(), ids=REWARDS)
@pytest.mark.parametrize("kind, attributes, advantage", [
    ("grpo", {"scale_rewards": "group"}, group_relative),
    ("grpo", {"scale_rewards": "none"}, lambda r: group_relative(r, normalize_std=False)),
    ("grpo", {"scale_rewards": "batch"}, batch_level),
    ("rloo", {"normalize_advantages": False}, leave_one_out),
], ids=["group", "none", "batch", "rloo"])
def test_equal_to_trl(trl_advantages, kind, attributes, advantage, rewards):
    ours = advantage(torch.tensor([[NAN if r is None else float(r) for r in group] for group in rewards]))
    assert ours.abs().max() > 0
    close(ours, trl_advantages(kind, rewards, **attributes), 1e-5)


# --- properties -------------------------------------------------------------------------------------------------------

@st.composite
def reward_tensors(draw, low=-10.0, high=10.0):
    b, g = draw(st.integers(1, 4)), draw(st.integers(2, 9))
    values = draw(st.lists(st.floats(low, high, width=32), min_size=b * g, max_size=b * g))
    return torch.tensor(values, dtype=torch.float64).view(b, g)


@every
@given(rewards=reward_tensors())
@settings(max_examples=60, deadline=None)
def test_each_group_sums_to_zero_and_keeps_its_order(advantage, rewards):
    before = rewards.clone()
    result = advantage(rewards)
    assert result.shape == rewards.shape and result.isfinite().all() and (rewards == before).all()
    close(result.sum(dim=1), torch.zeros(len(rewards)), 1e-8)
    ordered = result.gather(1, rewards.argsort(dim=1))
    assert (ordered.diff(dim=1) >= -1e-12).all()


@every
@given(rewards=reward_tensors(), shift=st.floats(-100, 100))
@settings(max_examples=60, deadline=None)
def test_a_shift_of_all_rewards_changes_nothing(advantage, rewards, shift):
    close(advantage(rewards + shift), advantage(rewards), 1e-6)


@given(rewards=reward_tensors(), scale=st.floats(0.01, 100))
@settings(max_examples=60, deadline=None)
def test_scale(rewards, scale):
    for linear in (lambda r: group_relative(r, normalize_std=False), leave_one_out):
        close(linear(rewards * scale), linear(rewards) * scale, 1e-8)
    # With a standard deviation the scale cancels, up to eps, which has to be scaled along.
    for invariant in (group_relative, batch_level):
        close(invariant(rewards * scale, eps=1e-4 * scale), invariant(rewards), 1e-6)


@given(rewards=reward_tensors())
@settings(max_examples=60, deadline=None)
def test_the_std_is_one_and_rloo_is_the_mean_baseline_rescaled(rewards):
    g = rewards.shape[1]
    close(leave_one_out(rewards), group_relative(rewards, normalize_std=False) * g / (g - 1), 1e-9)
    others = torch.stack([rewards[:, [j for j in range(g) if j != i]].mean(dim=1) for i in range(g)], dim=1)
    close(leave_one_out(rewards), rewards - others, 1e-9)
    std = rewards.std(dim=1)
    close((group_relative(rewards, eps=0.0).std(dim=1) - 1)[std > 1e-2], torch.zeros(int((std > 1e-2).sum())), 1e-6)


@given(rewards=reward_tensors())
@settings(max_examples=60, deadline=None)
def test_zero_variance_is_where_every_advantage_is_zero(rewards):
    assert (zero_variance(rewards) == (group_relative(rewards) == 0).all(dim=1)).all()
    assert (zero_variance(rewards) == (rewards.amin(dim=1) == rewards.amax(dim=1))).all()


def test_leave_one_out_is_unbiased_and_the_group_mean_is_not():
    """Exact expectation of A * d log pi / d theta over all 2 ** G outcomes of a coin with success probability p."""
    p, g = 0.3, 3
    truth = p * (1 - p)  # d p / d theta for p = sigmoid(theta)
    expected = {leave_one_out: truth, ALL[1]: truth * (g - 1) / g}
    for advantage, value in expected.items():
        total = 0.0
        for outcome in range(2 ** g):
            hits = torch.tensor([[float(outcome >> i & 1) for i in range(g)]], dtype=torch.float64)
            probability = (p ** hits * (1 - p) ** (1 - hits)).prod()
            total += probability * (advantage(hits) * (hits - p)).mean()
        assert float(total) == pytest.approx(value, abs=1e-12)


# --- errors -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("function", [*ALL, most_different, zero_variance], ids=[*IDS, "most_different", "zero_variance"])
@pytest.mark.parametrize("rewards, message", [
    (torch.zeros(4), r"\(4,\).*view\(-1, group_size\)"),
    (torch.zeros(2, 3, 4), r"\(2, 3, 4\)"),
    (torch.zeros(4, 1), r"\(4, 1\).*G >= 2"),
    (torch.zeros(0, 4), r"\(0, 4\)"),
    (torch.zeros(2, 2, dtype=torch.long), r"int64.*rewards.float\(\)"),
    (torch.tensor([[0.0, math.inf]]), "infinity"),
])
def test_wrong_input_is_named(function, rewards, message):
    with pytest.raises(ValueError, match=message):
        function(rewards)
