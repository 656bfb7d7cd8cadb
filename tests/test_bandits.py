"""Bandits: against values worked out by hand, against the exact gradient, and by property."""
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor

from rftlab import advantages, bandits
from rftlab.bandits import Bandit

BANDIT = Bandit((0.2, 0.5, 0.8))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def f64(*values):
    return tensor([values], dtype=torch.float64)


@pytest.mark.parametrize("means", [(0.5,), (0.2, 1.1), (-0.1, 0.5), (0.2, float("nan"))])
def test_means_must_be_probabilities(means):
    with pytest.raises(ValueError, match="at least 2 probabilities"):
        Bandit(means)


def test_pull_pays_as_often_as_the_mean_says():
    rewards = BANDIT.pull(torch.arange(3).repeat(20_000, 1), generator())
    assert set(rewards.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(rewards.mean(dim=0), BANDIT.values, atol=0.015)


def test_pull_of_certain_arms():
    assert Bandit((0.0, 1.0)).pull(tensor([0, 1] * 500), generator()).tolist() == [0.0, 1.0] * 500


def test_sample_follows_the_probabilities():
    probs = tensor([[0.1, 0.2, 0.7], [0.0, 1.0, 0.0]], dtype=torch.float64)
    actions = bandits.sample(probs, 40_000, generator())
    shares = torch.nn.functional.one_hot(actions, 3).double().mean(dim=1)
    assert actions.shape == (2, 40_000)
    assert torch.allclose(shares, probs, atol=0.01)
    assert shares[1].tolist() == [0.0, 1.0, 0.0]


@given(st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=50))
def test_sample_stays_within_the_arms(weights):
    probs = tensor([weights], dtype=torch.float32)  # float32: the rows sum to 1 only nearly
    actions = bandits.sample(probs / probs.sum(), 200, generator())
    assert actions.min() >= 0 and actions.max() < len(weights)


# ---- choosers: one decision each, by hand ----

def test_greedy_takes_the_best_average_and_counts_the_unknown_as_zero():
    assert bandits.greedy(f64(10, 2, 0), f64(6, 1, 0), generator()).item() == 0  # averages 0.6, 0.5, unknown
    assert bandits.greedy(f64(3, 1, 0), f64(0, 1, 0), generator()).item() == 1


def test_greedy_breaks_ties_by_chance():
    chosen = bandits.greedy(torch.zeros(6000, 3), torch.zeros(6000, 3), generator())
    assert torch.allclose(chosen.bincount() / 6000, torch.full((3,), 1 / 3), atol=0.03)


def test_epsilon_is_the_share_of_random_pulls():
    counts, totals = f64(1, 1, 1).expand(20_000, 3), f64(0, 0, 1).expand(20_000, 3)
    chosen = bandits.epsilon_greedy(counts, totals, generator(), epsilon=0.3)
    assert abs((chosen != 2).double().mean() - 0.2) < 0.01  # a random arm is the best one in a third of the cases
    assert (bandits.epsilon_greedy(counts, totals, generator(), epsilon=0.0) == 2).all()


def test_ucb_prefers_the_arm_in_doubt():
    counts, totals = f64(10, 2), f64(6, 1)  # indices 0.6 + 0.35 and 0.5 + 0.79 at width 1/2
    assert bandits.ucb(counts, totals, generator(), width=0.5).item() == 1
    assert bandits.ucb(counts, totals, generator(), width=0.01).item() == 0


def test_ucb_tries_every_arm_first():
    arms = bandits.play(BANDIT, bandits.ucb, pulls=3, runs=50)
    assert (arms.sort(dim=1).values == torch.arange(3)).all()


# ---- whole games ----

def test_regret_by_hand():
    assert bandits.regret(BANDIT, tensor([[2, 0, 1, 2]]))[0].tolist() == pytest.approx([0.0, 0.6, 0.9, 0.9])


def test_greedy_locks_in_as_often_as_the_formula_says():
    arms = bandits.play(BANDIT, bandits.greedy, pulls=100, runs=4000)
    shares = arms[:, -1].bincount() / 4000
    assert torch.allclose(shares, tensor([0.2, 0.5, 0.8]) / 1.5, atol=0.03)  # 4 standard errors


def test_epsilon_greedy_pays_for_its_random_pulls_for_ever_and_ucb_does_not():
    late = {}
    for name, choose in {"epsilon": bandits.epsilon_greedy, "ucb": partial(bandits.ucb, width=0.5)}.items():
        regret = bandits.regret(BANDIT, bandits.play(BANDIT, choose, pulls=1000, runs=200))
        late[name] = ((regret[:, -1] - regret[:, 499]) / 500).median().item()
    assert late["epsilon"] == pytest.approx(0.1 * 0.3, rel=0.15)
    assert late["ucb"] < 0.01


def test_play_is_reproducible():
    first, again, other = (bandits.play(BANDIT, bandits.epsilon_greedy, pulls=30, runs=5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=5), st.integers(0, 100))
def test_regret_never_falls(means, seed):
    bandit = Bandit(tuple(means))
    regret = bandits.regret(bandit, bandits.play(bandit, bandits.epsilon_greedy, pulls=20, runs=4, seed=seed))
    assert (regret[:, 0] >= 0).all() and (regret.diff(dim=1) >= 0).all()


# ---- policy gradient ----

def test_one_step_follows_the_exact_gradient():
    # at the uniform policy the gradient of the expected reward is (-0.1, 0, 0.1)
    probs = bandits.policy_gradient(BANDIT, torch.zeros(1, 3), advantages.leave_one_out, steps=1, group_size=400_000, lr=1.0)
    logits = probs[1, 0].log()
    assert torch.allclose(logits - logits[1], tensor([-0.1, 0.0, 0.1], dtype=torch.float64), atol=0.005)


def test_agrees_with_autograd():
    seen = generator(3)
    logits = tensor([[0.3, -0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    probs = bandits.policy_gradient(BANDIT, logits, advantages.group_relative, steps=20, group_size=6, lr=0.7, seed=3)
    for step in range(20):
        log_probs = logits.log_softmax(dim=-1)
        assert torch.allclose(log_probs.exp(), probs[step])
        arms = bandits.sample(log_probs.exp(), 6, seen)
        advantage = advantages.group_relative(BANDIT.pull(arms, seen))
        loss = -(advantage * log_probs.gather(1, arms)).mean()
        logits = (logits - 0.7 * torch.autograd.grad(loss, logits)[0]).detach().requires_grad_()


@pytest.mark.parametrize("seed", range(3))
def test_it_learns_the_best_arm(seed):
    probs = bandits.policy_gradient(BANDIT, torch.zeros(10, 3), advantages.leave_one_out,
                                    steps=300, group_size=8, lr=0.5, seed=seed)
    assert probs.shape == (301, 10, 3)
    assert torch.allclose(probs.sum(dim=-1), torch.ones(301, 10, dtype=torch.float64))
    assert probs[-1, :, 2].min() > 0.95


def test_a_constant_in_the_reward_cancels_with_a_baseline_only():
    def learn(advantage_fn):
        return bandits.policy_gradient(BANDIT, torch.zeros(50, 3), advantage_fn, steps=100, group_size=8, lr=0.5)

    with_baseline, shifted = learn(advantages.leave_one_out), learn(lambda r: advantages.leave_one_out(r + 10))
    assert torch.allclose(with_baseline, shifted)
    assert (learn(lambda r: r + 10)[-1].argmax(dim=-1) != 2).double().mean() > 0.3


def test_start_is_left_alone():
    logits = torch.zeros(2, 3, dtype=torch.float64)
    bandits.policy_gradient(BANDIT, logits, advantages.leave_one_out, steps=5, group_size=4, lr=1.0)
    assert torch.equal(logits, torch.zeros(2, 3, dtype=torch.float64))
