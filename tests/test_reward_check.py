"""A reward that says no number, or cannot be called, is named before anything is trained on it; in both training loops."""
import asyncio

import pytest

import rftlab
from rftlab import grpo, hub_training, own_task, rewards
from rftlab.reward_check import checked

TEXTS = ["a", "b", "c"]


def paid(said):
    def mine(prompts, completions, **columns):
        return said
    return checked(mine)(["?"] * 3, TEXTS)


def test_numbers_pass_as_they_are():
    import numpy
    import torch

    for said in ([1, 0.5, None], (True, 0.5, None), [numpy.float32(1), torch.tensor(0.5), None]):
        assert paid(said) == [1.0, 0.5, None]
    assert paid(torch.tensor([1.0, 0.5, 0.0])) == paid(numpy.array([1, 0.5, 0])) == [1.0, 0.5, 0.0]


def test_one_number_in_an_array_and_a_set_are_explained():
    import numpy
    import torch

    for said in (torch.tensor(1.0), numpy.array(1.0)):
        with pytest.raises(ValueError, match="'mine' returned .*1.* for 3 completions; expected f.prompts, completions"):
            paid(said)
    for said in ({0.0, 0.5, 1.0}, frozenset([0.0, 0.5, 1.0])):
        with pytest.raises(ValueError, match="'mine' returned .*0.5.*, which has no order, for 3 completions; expected f.prompts, completions"):
            paid(said)


@pytest.mark.parametrize("said, message", [
    (["1.0", 0, 0], "returned '1.0' for completion 0; expected a finite number, or None"), ([0, float("nan"), 0], "returned nan for completion 1"),
    ([0, 0, float("inf")], "returned inf for completion 2"), ([[1], 0, 0], r"returned \[1\] for completion 0"), ([1.0], "returned 1 rewards for 3 completions"),
    ([1.0] * 4, "returned 4 rewards for 3"), (1.0, "returned 1.0 for 3 completions; expected f.prompts, completions"), (None, "returned None for 3"),
    ("abc", "returned 'abc' for 3"), ({"a": 1, "b": 2, "c": 3}, "returned {'a': 1.* expected f.prompts")])
def test_anything_else_is_named(said, message):
    with pytest.raises(ValueError, match=f"the reward function 'mine' {message}"):
        paid(said)


def test_a_failure_says_where():
    def mine(prompts, completions, **columns):
        return [float(text) for text in completions]

    async def later(prompts, completions, **columns):
        return mine(prompts, completions)

    for call in (lambda: checked(mine)(["?"] * 3, TEXTS), lambda: asyncio.run(checked(later)(["?"] * 3, TEXTS))):
        with pytest.raises(ValueError, match="failed with ValueError: could not convert string to float: 'a', line [0-9]+ of test_reward_check.py; a policy may"):
            call()
    with pytest.raises(ValueError, match="^the verifier got no column"):  # what this package says needs no wrapping
        checked(rewards.verifier(rftlab.load_task("arithmetic")))(["?"], ["1"])


def test_a_part_of_a_combined_reward_is_named_as_alone():
    def mine(prompts, completions, **columns):
        return [float(text) for text in completions]

    inner = rewards.combine({mine: 1.0})
    for fn in (inner, rewards.combine([(inner, 1.0), (rewards.constant(0.5), 1.0)])):
        with pytest.raises(ValueError, match="'mine' failed with ValueError: could not convert string to float: 'a', line [0-9]+ of test_reward_check.py; a policy"):
            checked(fn)(["?"] * 3, TEXTS)
        logged = {}
        said = checked(fn)(["?"] * 2, ["1", "2"], log_metric=logged.__setitem__)
        assert said == fn(["?"] * 2, ["1", "2"]) and logged["reward_parts/mine"] == 1.5 and checked(fn).__name__ == "Combined"

    def text(prompts, completions, **columns):
        return ["1"] * len(completions)

    async def later(prompts, completions, **columns):
        return [0.0] * len(completions)

    with pytest.raises(ValueError, match="the reward function 'text' returned '1' for completion 0"):
        checked(rewards.combine({text: 1.0}))(["?"] * 3, TEXTS)
    with pytest.raises(ValueError, match="one_by_one.* cannot be called by a training loop"):
        checked(rewards.combine({one_by_one: 1.0}))
    with pytest.raises(ValueError, match="the part 'later' of a combined reward is `async`.*give it beside the combined one"):
        checked(rewards.combine({later: 1.0}))


def test_what_training_passes_may_be_asked_for_and_must_be_taken():
    def asks(prompts, completions, answer, **columns):
        return [float(a == c) for a, c in zip(answer, completions)]

    def takes_all(prompts, completions, completion_ids, problem, answer, step, log_metric):
        return [0.0] * len(completions)

    assert checked(asks)(["?"] * 3, TEXTS, answer=["a", "x", "c"], step=0) == [1.0, 0.0, 1.0]
    checked(takes_all)
    for lacks in (lambda prompts, completions, completion_ids, problem, answer, log_metric: [], lambda prompts, completions, completion_ids, problem, step, log_metric: []):
        with pytest.raises(ValueError, match="cannot be called by a training loop .*unexpected keyword argument '(step|answer)'.; expected f.prompts, completions, ..columns"):
            checked(lacks)


def one_by_one(completion, problem):
    return 1.0


@pytest.mark.parametrize("function, message", [
    (one_by_one, "cannot be called by a training loop .*; a function of .completion, problem. becomes such a one by rewards.verifier"),
    (lambda prompts, completions: [0.0], "unexpected keyword argument 'completion_ids'"), (3, "the reward function is 3; expected f.prompts")])
def test_what_cannot_be_called_is_refused_before_the_run(function, message):
    problems = own_task.own_task([rftlab.Problem(f"{i} + 1 =", str(i + 1)) for i in range(4)], one_by_one).train()
    task, policy = rftlab.load_task("arithmetic"), rftlab.load_policy("tiny")
    with pytest.raises(ValueError, match=message):
        grpo.train(policy, task, problems, steps=1, reward_fn=function)
    pytest.importorskip("trl")
    with pytest.raises(ValueError, match=message):
        hub_training.grpo_trainer(hub_training.HubPolicy("tiny", policy.model, policy.tokenizer), function, problems, steps=1)


def test_both_loops_refuse_what_is_no_number(tmp_path, monkeypatch):
    def mine(prompts, completions, **columns):
        return ["good"] * len(completions)

    async def waits(prompts, completions, **columns):
        return [0.0] * len(completions)

    pytest.importorskip("trl")
    monkeypatch.setenv("RFTLAB_BACKEND", "transformers")
    hub_training.backend.cache_clear()
    task, small = rftlab.load_task("arithmetic"), {"steps": 1, "prompts_per_step": 2, "group_size": 2, "max_new_tokens": 4}
    with pytest.raises(ValueError, match="the reward function 'mine' returned 'good' for completion 0"):
        grpo.train(rftlab.load_policy("tiny"), task, task.train(4), reward_fn=mine, **small)
    policy = hub_training.load("tiny", "lora", rank=4)
    with pytest.raises(ValueError, match="the reward function 'mine' returned 'good' for completion 0"):
        hub_training.grpo_trainer(policy, mine, task.train(4), output=tmp_path, **small).train()
    with pytest.raises(ValueError, match="is `async`, for which nobody waits here; TRL's trainer does"):
        grpo.train(rftlab.load_policy("tiny"), task, task.train(4), reward_fn=waits, **small)
    with pytest.raises(ValueError, match="need at least one problem and group_size >= 2"):
        hub_training.grpo_trainer(policy, mine, [], output=tmp_path, **small)
    trainer = hub_training.grpo_trainer(policy, [waits, rewards.combine({rewards.number_only: 1.0})], task.train(4), output=tmp_path, **small)
    trainer.train()
    assert trainer.reward_func_names == ["waits", "Combined"] and "rewards/waits/mean" in trainer.state.log_history[0]
    hub_training.backend.cache_clear()
