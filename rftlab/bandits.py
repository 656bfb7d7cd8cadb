"""Bandits: the smallest problem with a reward in it, with an optimum that is known by hand.

A bandit has K arms. A pull of arm k pays 1 with probability means[k] and 0 otherwise. Everything here plays
R independent runs at once, one row each, so that a claim can be drawn with its spread.

All chance comes from `torch.rand`. `torch.multinomial` and `torch.bernoulli` draw other numbers from the same
seed where torch is built without MKL, and the outputs of a notebook should be the same on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Chooser = Callable[[Tensor, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Bandit:
    """K arms; arm k pays 1 with probability means[k], else 0. ValueError when a mean is no probability."""

    means: tuple[float, ...]

    def __post_init__(self):
        if len(self.means) < 2 or not all(0.0 <= mean <= 1.0 for mean in self.means):
            raise ValueError(f"means is {self.means}, expected at least 2 probabilities, each in [0, 1].")

    @property
    def values(self) -> Tensor:
        """(K,) the mean reward of each arm, which the learner never sees."""
        return torch.tensor(self.means, dtype=torch.float64)

    def pull(self, arms: Tensor, generator: torch.Generator) -> Tensor:
        """Rewards 0.0 or 1.0, same shape as `arms`."""
        chance = torch.rand(arms.shape, generator=generator, dtype=torch.float64)
        return (chance < self.values[arms]).double()


def sample(probs: Tensor, num_samples: int, generator: torch.Generator) -> Tensor:
    """(R, num_samples) actions drawn from `probs` (R, K), whose rows sum to 1; with replacement."""
    chance = torch.rand(len(probs), num_samples, 1, generator=generator, dtype=torch.float64)
    # The last edge is left out: rounding may put it below 1, and then a draw could fall outside every arm.
    edges = probs.detach().cumsum(dim=-1)[:, None, :-1]
    return (chance >= edges).sum(dim=-1)


def greedy(counts: Tensor, totals: Tensor, generator: torch.Generator) -> Tensor:
    """(R,) the arm with the best average so far; an arm not yet pulled counts as 0; ties at random."""
    return _argmax(totals / counts.clamp(min=1), generator)


def epsilon_greedy(counts: Tensor, totals: Tensor, generator: torch.Generator, epsilon: float = 0.1) -> Tensor:
    """(R,) a random arm with probability `epsilon`, else the greedy one (Sutton and Barto 2018, section 2.2)."""
    runs, arms = counts.shape
    explore = torch.rand(runs, generator=generator, dtype=torch.float64) < epsilon
    anything = torch.randint(arms, (runs,), generator=generator)
    return torch.where(explore, anything, greedy(counts, totals, generator))


def ucb(counts: Tensor, totals: Tensor, generator: torch.Generator, width: float = 2.0) -> Tensor:
    """(R,) the arm with the best average + sqrt(width * ln(pulls) / count): UCB1 (Auer et al. 2002) at width 2.

    Arms that have not been pulled come first. A pull pays 0 or 1, so its variance is at most 1/4; the width
    that belongs to that variance is 1/2, while UCB1's 2 is chosen for its proof and explores more.
    """
    pulls = counts.sum(dim=1, keepdim=True).clamp(min=1)
    bonus = (width * pulls.log() / counts).sqrt()
    index = torch.where(counts > 0, totals / counts.clamp(min=1) + bonus, torch.inf)
    return _argmax(index, generator)


def play(bandit: Bandit, choose: Chooser, *, pulls: int, runs: int, seed: int = 0) -> Tensor:
    """(R, pulls) the arms that `choose(counts, totals, generator) -> (R,)` picks, one pull after the other.

    `counts` (R, K) says how often each arm was pulled in each run, `totals` (R, K) what it paid in all.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = torch.zeros(runs, len(bandit.means), dtype=torch.float64)
    totals = torch.zeros_like(counts)
    history = []
    for _ in range(pulls):
        arms = choose(counts, totals, generator)
        rewards = bandit.pull(arms, generator)
        counts[torch.arange(runs), arms] += 1
        totals[torch.arange(runs), arms] += rewards
        history.append(arms)
    return torch.stack(history, dim=1)


def regret(bandit: Bandit, arms: Tensor) -> Tensor:
    """(R, pulls) what the pulls so far cost in mean reward, against always pulling the best arm."""
    return (max(bandit.means) - bandit.values[arms]).cumsum(dim=-1)


def policy_gradient(bandit: Bandit, logits: Tensor, advantage_fn: Callable[[Tensor], Tensor], *,
                    steps: int, group_size: int, lr: float, seed: int = 0) -> Tensor:
    """(steps + 1, R, K) the probabilities of a softmax policy that learns by REINFORCE (Williams 1992).

    `logits` (R, K) is where each run starts. One step: `group_size` pulls, `advantage_fn` turns their rewards
    (R, group_size) into advantages, and the logits move by `lr` times the mean of advantage times the
    gradient of log pi(arm), which for a softmax is one_hot(arm) - pi. No autograd: a notebook checks this
    against it.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = logits.detach().double().clone()
    history = [logits.softmax(dim=-1)]
    for _ in range(steps):
        probs = history[-1]
        arms = sample(probs, group_size, generator)
        advantages = advantage_fn(bandit.pull(arms, generator))
        grad_log_probs = torch.nn.functional.one_hot(arms, probs.shape[-1]) - probs[:, None, :]
        logits += lr * (advantages[..., None] * grad_log_probs).mean(dim=1)
        history.append(logits.softmax(dim=-1))
    return torch.stack(history)


def _argmax(scores: Tensor, generator: torch.Generator) -> Tensor:
    """Index of the highest score in each row; equal scores are decided by chance."""
    ties = scores == scores.amax(dim=-1, keepdim=True)
    return (ties * (1 + torch.rand(scores.shape, generator=generator, dtype=torch.float64))).argmax(dim=-1)
