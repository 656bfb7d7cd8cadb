"""GRPO (Shao et al. 2024, arXiv 2402.03300): sample a group for each prompt, compare each answer with its siblings, step.

Deviations from the paper: the loss averages over tokens of the whole batch and clips higher above (DAPO, Yu et al. 2025,
arXiv 2503.14476); no KL term unless kl_coef is given; one optimizer step a rollout unless updates_per_rollout is raised.
Completions with an advantage of 0 carry no gradient and are not computed again, whole groups whose rewards are all equal
among them; the share of those groups is logged as zero_variance.
"""
import functools
import inspect
import time

import torch

from rftlab import advantages, losses, records, reward_check, rewards
from rftlab.logprobs import completion_log_probs
from rftlab.loop import Loop, configuration, draw, step_seed
from rftlab.rollout import rollout


def train(policy, task, problems, *, steps=100, seed=0, prompts_per_step=8, group_size=8, max_new_tokens=32, temperature=1.0,
          stop=None, lr=None, loss_fn=losses.dapo, advantage_fn=advantages.group_relative, reward_fn=None, kl_coef=0.0, track_kl=False,
          updates_per_rollout=1, prompts_per_pass=4, eval_problems=None, eval_every=0, patience=None, checkpoint=None,
          checkpoint_every=5, on_step=None, experiment="adhoc", arm="rft"):
    """Train `policy` on `problems` by reinforcement; returns its RunRecord.

    reward_fn: TRL's signature, by default the task's verifier. A reward of None is "not graded" and teaches nothing.
    stop: see `rftlab.rollout.rollout`. lr: default 2e-4 with adapters, 3e-4 without. prompts_per_pass: groups per forward pass; it changes memory, not the
    result. eval_problems: held-out problems for accuracy before, every `eval_every` steps, and after.
    checkpoint: a file to resume from, written every `checkpoint_every` steps; the same call goes on where it stopped.
    Raises ValueError for no problems, a group of one, a reward that is no number, or a checkpoint of another run.
    """
    check_groups(problems, group_size)
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}: without chance all completions of a group are one")
    seed, lr = int(seed), float(lr if lr is not None else 2e-4 if policy.adapters else 3e-4)
    arguments = {k: v for k, v in locals().items() if k not in (
        "policy", "task", "problems", "checkpoint", "checkpoint_every", "on_step", "prompts_per_pass", "experiment", "arm")}
    record = records.new(experiment, arm, task.name, policy.name, len(problems), seed,
                         configuration(policy, task, problems, arguments))
    reward_fn = _plain(reward_fn or rewards.verifier(task))
    loop = Loop(policy, task, record, steps=steps, lr=lr, eval_problems=eval_problems, eval_every=eval_every,
                max_new_tokens=max_new_tokens, patience=patience, checkpoint=checkpoint, checkpoint_every=checkpoint_every,
                on_step=on_step, keep_start=bool(kl_coef or track_kl))
    reference = loop.at_start(lambda: Reference(policy)) if kl_coef or track_kl else None
    for step in loop:
        batch = draw(problems, prompts_per_step, seed, step)
        r = rollout(policy, [p.prompt for p in batch], group_size, max_new_tokens, temperature, step_seed(seed, step), stop=stop)
        start = time.perf_counter()
        values, parts = score(reward_fn, r, batch, step)
        group_advantages = advantage_fn(values)
        graded = time.perf_counter()
        metrics = update(policy, r, group_advantages, loop, loss_fn, kl_coef, reference, updates_per_rollout,
                         prompts_per_pass, temperature)
        end = time.perf_counter()
        loop.log(step, {
            "reward": float(values.nanmean()), "reward_std": float(values[~values.isnan()].std()),
            "zero_variance": float(advantages.zero_variance(values).float().mean()),
            "entropy": float(-r.log_probs[r.completion_mask].mean()), "length": r.tokens / len(r.texts), **metrics, **parts,
            "tokens_per_second": r.tokens / r.seconds, "seconds_rollout": r.seconds, "seconds_reward": graded - start,
            "seconds_update": end - graded})
    return loop.finish()


def check_groups(problems, group_size) -> None:
    """Raise ValueError unless groups of completions can be compared."""
    if not problems or group_size < 2:
        raise ValueError(f"need at least one problem and group_size >= 2 (a group of one has nothing to compare with), "
                         f"got {len(problems)} and {group_size}")


def _plain(reward_fn):
    """The reward function, looked at. Raises ValueError for one that cannot be called here."""
    if reward_check.is_async(reward_fn):
        raise ValueError("the reward function is `async`, for which nobody waits here; TRL's trainer does (rftlab.hub_training.grpo_trainer)")
    return reward_check.checked(reward_fn)


def score(reward_fn, r, batch, step):
    """Rewards (B, G), NaN where not graded, and the mean of each part of a combined reward."""
    repeated = [p for p in batch for _ in range(r.group_size)]
    parts = {}
    ids = [row[keep].tolist() for row, keep in zip(r.completion_ids, r.completion_mask)]
    values = reward_fn(prompts=[p.prompt for p in repeated], completions=r.texts, completion_ids=ids, problem=repeated,
                       answer=[p.answer for p in repeated], step=step, log_metric=lambda name, value: parts.update({name: float(value)}))
    values = torch.tensor([float("nan") if v is None else v for v in values])
    return values.view(len(batch), r.group_size), parts


def update(policy, r, group_advantages, loop, loss_fn, kl_coef, reference, updates, prompts_per_pass, temperature):
    """One or more optimizer steps on a rollout, a few groups at a time; the losses of the parts add up to the batch's."""
    G, flat = r.group_size, group_advantages.flatten().to(r.completion_ids.device)
    useful = torch.arange(len(group_advantages)) if reference else (group_advantages != 0).any(1).nonzero()[:, 0]
    totals = {"num_sequences": len(flat), "num_tokens": r.tokens}
    old, ref = {}, {}
    clip = clip_range(loss_fn)
    metrics = {"loss": 0.0, "kl": None, "clip_fraction": 0.0 if clip else None, "grad_norm": 0.0}
    for _ in range(updates if len(useful) else 0):
        sums = {"loss": 0.0, "kl": 0.0, "clip_fraction": 0.0}
        for i, groups in enumerate(useful.split(prompts_per_pass)):
            rows = (groups[:, None] * G + torch.arange(G)).flatten()
            tokens, mask = r.completion_ids[rows], r.completion_mask[rows]
            if not reference:  # an advantage of 0 has no gradient, whatever the loss
                mask = mask & (flat[rows] != 0)[:, None]
            inputs = (policy.model, r.prompt_ids[groups], r.prompt_mask[groups], tokens, mask, temperature)
            log_probs = completion_log_probs(*inputs)
            old.setdefault(i, log_probs.detach())  # on policy at first: the ratio is 1
            loss = loss_fn(log_probs, old[i], flat[rows], mask, **totals)
            if reference:
                if i not in ref:
                    ref[i] = reference.log_probs(*inputs[1:])
                kl = losses.token_mean(losses.kl_k3(log_probs, ref[i], mask), mask, r.tokens)
                loss, sums["kl"] = loss + kl_coef * kl, sums["kl"] + kl.item()
            loop.backward(loss)
            sums["loss"] += loss.item()
            if clip:
                sums["clip_fraction"] += losses.clip_fraction(log_probs, old[i], flat[rows], mask, num_tokens=r.tokens, **clip).item()
        metrics.update(sums, kl=sums["kl"] if reference else None, clip_fraction=sums["clip_fraction"] if clip else None,
                       grad_norm=loop.step_optimizer())
    return metrics


def clip_range(loss_fn) -> dict:
    """The clip_low and clip_high with which a loss clips token by token; {} for a loss that clips otherwise, or is not one of `losses`."""
    plain = loss_fn.func if isinstance(loss_fn, functools.partial) else loss_fn
    if plain not in (losses.ppo_clip, losses.grpo, losses.dr_grpo, losses.dapo):
        return {}
    given = inspect.signature(loss_fn).parameters
    return {name: given[name].default for name in ("clip_low", "clip_high")}


class Reference:
    """The policy as it was before training: the base weights under new adapters, a copy of trained ones, or a frozen copy of all weights."""

    def __init__(self, policy):
        import copy

        from rftlab import lora

        self.adapters, self.model, self.taken = policy.adapters, policy.model, {}
        if not self.adapters:
            self.model = copy.deepcopy(policy.model).requires_grad_(False)
        elif any(adapter.B.any() for adapter in self.adapters.values()):  # after a warm-up: not the base model
            self.taken = lora.snapshot(self.adapters)

    @torch.no_grad()
    def log_probs(self, *inputs):
        from rftlab import lora

        with lora.snapshot_weights(self.adapters, self.taken) if self.taken else lora.base_weights(self.adapters):
            return completion_log_probs(self.model, *inputs)
