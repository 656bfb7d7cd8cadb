"""The training loops: they learn, they resume exactly, and how a batch is split does not matter."""
import functools
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import rftlab
from rftlab import advantages, grpo, loop, losses, rewards, sft
from rftlab.records import RunRecord


@pytest.fixture(scope="module")
def task():
    return rftlab.load_task("arithmetic")


def weights(policy):
    return torch.cat([p.detach().flatten() for p in policy.parameters])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.slow
def test_it_learns(task, seed):
    """25 steps lift greedy accuracy on held-out problems by at least 40 points; a coin as reward does not."""
    policy, test = rftlab.load_policy("tiny"), task.test(100)
    record = grpo.train(policy, task, task.train(100, seed=seed), steps=25, seed=seed, eval_problems=test)
    gain = record.final["accuracy"]["mean"] - record.final["accuracy_before"]["mean"]
    assert gain > 0.4
    if seed == 0:
        control = grpo.train(rftlab.load_policy("tiny"), task, task.train(100), steps=25, eval_problems=test,
                             reward_fn=rewards.random_reward(0, 0.2))
        assert gain > control.final["accuracy"]["mean"] - control.final["accuracy_before"]["mean"] + 0.3


def test_sft_learns_to_imitate(task):
    policy, problems = rftlab.load_policy("tiny"), task.train(4)
    record = sft.train(policy, task, problems, steps=40, prompts_per_step=4, lr=2e-3)
    assert policy.generate([p.prompt for p in problems]) == [p.answer for p in problems]
    assert record.arm == "sft-answers" and record.metrics[-1]["loss"] < 0.1 * record.metrics[0]["loss"]


@pytest.mark.parametrize("loss_fn", [losses.dapo, losses.grpo, losses.dr_grpo, losses.gspo, losses.cispo, losses.reinforce])
def test_accumulation_does_not_change_the_result(task, loss_fn):
    """One group at a time or all at once: the same weights after a step, up to rounding."""
    results = []
    for prompts_per_pass in (1, 3, 8):
        policy = rftlab.load_policy("tiny")
        before = weights(policy)
        # plain gradient descent shows the gradient itself, where Adam would show little more than its sign
        record = grpo.train(policy, task, task.train(8), steps=1, loss_fn=loss_fn, prompts_per_pass=prompts_per_pass, lr=1e-3,
                            reward_fn=by_length, max_new_tokens=16)
        results.append((weights(policy) - before, record.metrics[0]["grad_norm"], record.metrics[0]["loss"]))
    for moved, norm, loss in results[1:]:
        assert norm == pytest.approx(results[0][1], rel=1e-3)
        assert loss == pytest.approx(results[0][2], abs=1e-5)
        assert torch.nn.functional.cosine_similarity(moved, results[0][0], dim=0) > 0.99


def by_length(prompts, completions, **columns):
    return [float(len(c)) for c in completions]


def test_sft_accumulation_does_not_change_the_result(task):
    norms = [sft.train(rftlab.load_policy("tiny"), task, task.train(8), steps=1, target="solution", prompts_per_pass=n)
             .metrics[0]["grad_norm"] for n in (1, 3, 8)]
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-3)


def test_equal_rewards_teach_nothing(task):
    policy = rftlab.load_policy("tiny")
    before = weights(policy)
    record = grpo.train(policy, task, task.train(8), steps=2, reward_fn=rewards.constant(1.0))
    assert torch.equal(weights(policy), before)
    assert [m["zero_variance"] for m in record.metrics] == [1.0, 1.0]


def test_a_completion_without_advantage_is_left_out_and_changes_nothing(task, monkeypatch):
    """The gradient is that of a step that computes it all the same, and fewer tokens are computed."""
    results = []
    for skip in (True, False):
        seen, policy = [], rftlab.load_policy("tiny")
        original = grpo.completion_log_probs
        monkeypatch.setattr(grpo, "completion_log_probs", lambda *inputs: seen.append(int(inputs[4].sum())) or original(*inputs))
        if not skip:  # hardly any advantage is not none at all
            fn = lambda rewards: (a := advantages.most_different(rewards, keep=4)).masked_fill(a == 0, 1e-20)
        else:
            fn = advantages.most_different
        record = grpo.train(policy, task, task.train(8), steps=1, lr=1e-3, reward_fn=by_length, max_new_tokens=16, advantage_fn=fn)
        monkeypatch.undo()
        results.append((sum(seen), record.metrics[0]["grad_norm"], record.metrics[0]["loss"]))
    assert results[0][0] < 0.7 * results[1][0]
    assert results[0][1:] == pytest.approx(results[1][1:], rel=1e-3)


def test_kl_is_zero_at_first_and_holds_the_policy_back(task):
    moved = []
    for kl_coef in (0.0, 5.0):
        for spec in (None, rftlab.LoraSpec(rank=4, alpha=8)):
            policy = rftlab.load_policy("tiny", lora=spec)
            record = grpo.train(policy, task, task.train(20), steps=8, kl_coef=kl_coef, track_kl=True, lr=2e-3,
                                max_new_tokens=16, reward_fn=by_length)
            assert record.metrics[0]["kl"] == pytest.approx(0, abs=1e-5)
            moved.append(record.metrics[-1]["kl"])
    assert moved[0] > 1.5 * moved[2] and moved[1] > 1.5 * moved[3] > 0, moved


@pytest.mark.parametrize("four_bits", [False, True])
def test_after_a_warm_up_the_reference_is_the_warm_policy(task, four_bits):
    """Not the base model under its adapters, from which the warm-up has moved it: that would undo the warm-up."""
    spec = rftlab.LoraSpec(rank=4, alpha=8)
    policy = rftlab.load_policy("tiny", lora=spec)
    if four_bits:
        pytest.importorskip("bitsandbytes")
        from rftlab import qlora

        policy = qlora.load_policy("tiny", spec)
    sft.train(policy, task, task.train(8), steps=5, lr=5e-3)
    warm = weights(policy)
    record = grpo.train(policy, task, task.train(20), steps=4, kl_coef=1.0, lr=2e-3, max_new_tokens=16, reward_fn=by_length)
    kl = [m["kl"] for m in record.metrics]
    assert kl[0] == pytest.approx(0, abs=1e-5) and kl[-1] > 1e-4
    assert not torch.equal(weights(policy), warm) and all(p.requires_grad for p in policy.parameters)


@pytest.mark.parametrize("spec", [None, rftlab.LoraSpec(rank=4, alpha=8)])
@pytest.mark.parametrize("warm", [False, True])
def test_a_resumed_run_keeps_its_reference(task, tmp_path, spec, warm):
    """The same call goes on with a policy that has already moved: the reference is the policy before the first step, not that one."""
    def kl(*all_steps):
        policy = rftlab.load_policy("tiny", lora=spec)
        if warm:
            sft.train(policy, task, task.train(8), steps=3, lr=5e-3)
        for steps in all_steps:
            record = grpo.train(policy, task, task.train(20), steps=steps, track_kl=True, lr=2e-3, max_new_tokens=16, reward_fn=by_length,
                                checkpoint=tmp_path / f"{len(all_steps)}.pt")
        return [m["kl"] for m in record.metrics]

    whole = kl(4)
    assert whole[0] == pytest.approx(0, abs=1e-5) and whole[2] > 1e-4
    assert kl(2, 4) == pytest.approx(whole, rel=1e-4, abs=1e-6)


def test_several_updates_a_rollout_clip(task):
    policy = rftlab.load_policy("tiny")
    record = grpo.train(policy, task, task.train(16), steps=1, updates_per_rollout=4, lr=5e-3, reward_fn=by_length)
    assert record.metrics[0]["clip_fraction"] > 0
    assert grpo.train(rftlab.load_policy("tiny"), task, task.train(16), steps=1, lr=5e-3, reward_fn=by_length
                      ).metrics[0]["clip_fraction"] == 0


def test_ungraded_completions_teach_nothing(task):
    def reward(prompts, completions, **columns):
        return [None if i % 2 else float(len(c)) for i, c in enumerate(completions)]

    record = grpo.train(rftlab.load_policy("tiny"), task, task.train(8), steps=1, reward_fn=reward)
    assert record.metrics[0]["reward"] > 0 and record.metrics[0]["grad_norm"] > 0


def test_metrics_and_contract(task, tmp_path):
    seen = []
    record = grpo.train(rftlab.load_policy("tiny"), task, task.train(10), steps=3, eval_problems=task.test(20), eval_every=2,
                        on_step=seen.append, reward_fn=rewards.combine({rewards.verifier(task): 1, rewards.number_only: 0.1}))
    assert seen == record.metrics and [m["step"] for m in seen] == [1, 2, 3]
    assert {"reward", "reward_std", "zero_variance", "entropy", "kl", "clip_fraction", "length", "grad_norm", "loss",
            "tokens_per_second", "seconds_rollout", "seconds_reward", "seconds_update"} <= set(seen[0])
    assert "accuracy" in seen[1] and "accuracy" not in seen[0] and "reward_parts/number_only" in seen[0]
    assert set(record.final) == {"accuracy", "accuracy_before"} and record.final["accuracy"]["n"] == 20
    assert RunRecord.load(record.save(tmp_path / "r.json")) == record


def test_patience_stops_and_returns_to_the_best(task, monkeypatch):
    """Scripted evaluations: 0.3 after two steps is the best, an equal one is no better, and after two of those it is over."""
    script = iter([0.1, 0.3, 0.2, 0.3, 0.35])
    monkeypatch.setattr(loop.evaluate, "accuracy", lambda *args, **kwargs: rftlab.Estimate(value := next(script), value, value, 9))
    policy, seen = rftlab.load_policy("tiny"), []
    record = sft.train(policy, task, task.train(2), steps=60, prompts_per_step=2, eval_problems=task.validation(2), eval_every=2,
                       patience=2, on_step=lambda metrics: seen.append(weights(policy)))
    assert record.curve("accuracy") == ([2, 4, 6], [0.3, 0.2, 0.3]) and len(record.metrics) == 6
    assert torch.equal(weights(policy), seen[1]) and not torch.equal(seen[1], seen[5])
    assert record.final["accuracy"]["mean"] == 0.35  # measured anew, on the best weights


def test_the_weights_before_training_can_be_the_best(task):
    """Steps that only do harm: two evaluations without a better one, and the policy is what it was."""
    policy, problems = rftlab.load_policy("tiny"), task.validation(40)
    before = weights(policy)
    record = sft.train(policy, task, task.train(4), steps=60, lr=0.05, eval_problems=problems, eval_every=3, patience=2)
    assert max(record.curve("accuracy")[1]) < record.final["accuracy_before"]["mean"] and len(record.metrics) == 6
    assert torch.equal(weights(policy), before) and record.final["accuracy"] == record.final["accuracy_before"]


def test_patience_ends_at_a_perfect_score(task):
    """Nothing is left to gain: training ends there, and does not begin where it is so from the start."""
    policy, problems = rftlab.load_policy("tiny"), task.train(3)
    options = {"steps": 60, "prompts_per_step": 3, "lr": 1e-3, "eval_problems": problems, "eval_every": 1}
    record = sft.train(policy, task, problems, patience=1000, **options)
    steps, curve = record.curve("accuracy")
    assert curve[-1] == 1.0 > max(curve[:-1]) and steps[-1] == len(record.metrics) < 60
    assert sft.train(policy, task, problems, patience=1000, **options).metrics == []
    assert len(sft.train(policy, task, problems, **{**options, "steps": 7}).metrics) == 7  # without patience all steps are made


RUN = """
import sys, rftlab

def on_step(metrics):
    print("step", metrics["step"], flush=True)
    sys.stdin.readline()  # wait until the test has decided what to do

task = rftlab.load_task("arithmetic")
policy = rftlab.load_policy("tiny", lora=rftlab.LoraSpec(rank=4, alpha=8))
if sys.argv[3] == "grpo":
    record = rftlab.grpo.train(policy, task, task.train(20), steps=8, seed=5, lr=2e-3, prompts_per_step=4, eval_problems=task.test(20),
        eval_every=3, checkpoint=sys.argv[1], checkpoint_every=2, on_step=on_step,
        reward_fn=rftlab.rewards.combine({rftlab.rewards.verifier(task): 1.0, rftlab.rewards.random_reward(1): 0.5}))
else:
    record = rftlab.sft.train(policy, task, task.train(20), steps=8, seed=5, lr=2e-3, eval_problems=task.test(20), eval_every=2,
        patience=3, checkpoint=sys.argv[1], checkpoint_every=2, on_step=on_step)
record.save(sys.argv[2])
"""


def run_until(step, how, folder, method):
    """Run the script, send `how` once it printed that step (None: let it end); returns what it wrote to stderr."""
    process = subprocess.Popen([sys.executable, "-c", RUN, folder / "state.pt", folder / "record.json", method], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "RFT_PROFILE": "ci"})
    for line in process.stdout:
        if how is not None and line.strip() == f"step {step}":
            process.send_signal(how)
            time.sleep(0.2)
            break
        process.stdin.write("go on\n")
        process.stdin.flush()
    return process.communicate()[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_kill_at_any_step_and_run_again(tmp_path, method):
    (whole := tmp_path / "whole").mkdir()
    (broken := tmp_path / "broken").mkdir()
    run_until(None, None, whole, method)
    for step in (1, 4, 7):
        run_until(step, signal.SIGKILL, broken, method)
        assert not (broken / "record.json").exists()
    run_until(None, None, broken, method)
    one, two = (RunRecord.load(f / "record.json").without_times() for f in (whole, broken))
    assert one == two and len(one["metrics"]) == 8


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    errors = run_until(3, signal.SIGINT, tmp_path, "grpo")
    assert "stopped after step" in errors and "make the same call again" in errors
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert 3 <= state["done"] < 8
    start = time.time()
    run_until(None, None, tmp_path, "grpo")
    assert len(RunRecord.load(tmp_path / "record.json").metrics) == 8 and time.time() - start < 120


def test_a_checkpoint_of_another_run_is_refused(task, tmp_path):
    def go(**changes):
        return grpo.train(rftlab.load_policy("tiny"), task, task.train(10), **{"steps": 1, "checkpoint": tmp_path / "c.pt", **changes})

    go()
    with pytest.raises(ValueError, match="belongs to another run: lr is 0.0003 there and 0.1 here"):
        go(lr=0.1)
    assert len(go(steps=2).metrics) == 2  # more steps of the same run is going on, not another run
    other = rftlab.load_policy("tiny")
    other.name = "another"
    with pytest.raises(ValueError, match="model is 'tiny' there and 'another' here"):
        grpo.train(other, task, task.train(10), steps=1, checkpoint=tmp_path / "c.pt")
    (tmp_path / "c.pt").write_text("no checkpoint")
    with pytest.raises(ValueError, match="c.pt is no checkpoint of a run like this one"):
        go()


def test_other_texts_to_imitate_are_another_run(task, tmp_path):
    def go(solution):
        return sft.train(rftlab.load_policy("tiny"), task, [rftlab.Problem("2 + 2 =", "4", solution)], steps=1, target="solution", checkpoint=tmp_path / "c.pt")

    go("2+2=4")
    with pytest.raises(ValueError, match="texts is"):
        go("four")


def test_a_run_on_own_data_resumes_with_the_reward_defined_anew(tmp_path):
    def make():
        def right(completion, problem):
            return float(problem.answer in completion)
        return right

    problems = [rftlab.Problem(f"{i} + 1 =", str(i + 1)) for i in range(8)]
    for steps in (1, 2):
        own = rftlab.own_task.own_task(problems, make())
        record = grpo.train(rftlab.load_policy("tiny"), own, own.train(), steps=steps, checkpoint=tmp_path / "c.pt")
        assert len(record.metrics) == steps and record.config["task"] == "OwnTask('own', right)"
    def other(completion, problem):
        return 0.0

    own = rftlab.own_task.own_task(problems, other)
    with pytest.raises(ValueError, match=r"task is .*right.* there and .*other.* here"):
        grpo.train(rftlab.load_policy("tiny"), own, own.train(), steps=2, checkpoint=tmp_path / "c.pt")


def test_names_of_functions_have_no_address_and_tell_partials_apart():
    assert loop.named(losses.dapo) == "dapo"
    assert loop.named(functools.partial(losses.dr_grpo, max_tokens=40)) == "dr_grpo(max_tokens=40)"
    assert loop.named(functools.partial(max, 1, key=abs, default=[])) == "max(1, default=list, key=abs)"


def test_the_last_steps_count_too(task, monkeypatch):
    """Three steps, looked at after two: the third is looked at before the best weights are chosen."""
    script = iter([0.1, 0.3, 0.5, 0.5])
    monkeypatch.setattr(loop.evaluate, "accuracy", lambda *args, **kwargs: rftlab.Estimate(value := next(script), value, value, 9))
    policy, seen = rftlab.load_policy("tiny"), []
    record = sft.train(policy, task, task.train(2), steps=3, prompts_per_step=2, eval_problems=task.validation(2), eval_every=2,
                       patience=9, on_step=lambda metrics: seen.append(weights(policy)))
    assert record.curve("accuracy") == ([2, 3], [0.3, 0.5]) and torch.equal(weights(policy), seen[2])


@pytest.mark.parametrize("options", [{"patience": 0}, {"patience": 2, "eval_every": 0}, {"patience": 2, "eval_problems": None}])
def test_patience_without_evaluations_is_refused(task, options):
    with pytest.raises(ValueError, match="patience counts evaluations"):
        grpo.train(rftlab.load_policy("tiny"), task, task.train(4), **{"eval_problems": task.validation(4), "eval_every": 1, **options})


def test_a_rate_of_zero_is_no_default(task):
    policy = rftlab.load_policy("tiny")
    before = weights(policy)
    record = grpo.train(policy, task, task.train(4), steps=1, lr=0.0)
    assert record.config["lr"] == 0.0 and torch.equal(weights(policy), before)


def test_a_reward_may_read_the_answers_and_be_below_zero(task):
    def strict(prompts, completions, answer, **columns):
        assert len(answer) == len(completions)
        return [1.0 if text.strip() == right else -0.5 for text, right in zip(completions, answer)]

    class Own:
        name = "own"

        def reward(self, completion, problem):
            return strict([problem.prompt], [completion], [problem.answer])[0]

    record = grpo.train(rftlab.load_policy("tiny"), Own(), task.train(4), steps=1, reward_fn=strict, eval_problems=task.test(8))
    assert -0.5 <= record.final["accuracy_before"]["mean"] <= 1.0 and record.metrics[0]["reward"] >= -0.5


def test_the_clip_fraction_is_that_of_the_loss():
    assert grpo.clip_range(losses.dapo) == {"clip_low": 0.2, "clip_high": 0.28}
    assert grpo.clip_range(functools.partial(losses.grpo, clip_high=0.5)) == {"clip_low": 0.2, "clip_high": 0.5}
    assert grpo.clip_range(losses.gspo) == {} == grpo.clip_range(lambda *given, **more: None)


def test_bad_input(task):
    policy = rftlab.load_policy("tiny")
    with pytest.raises(ValueError, match="at least one problem"):
        grpo.train(policy, task, [])
    with pytest.raises(ValueError, match="group_size >= 2"):
        grpo.train(policy, task, task.train(4), group_size=1)
    with pytest.raises(ValueError, match="returned 3 rewards for 64"):
        grpo.train(policy, task, task.train(4), steps=1, reward_fn=lambda **k: [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="steps must be at least 1"):
        sft.train(policy, task, task.train(4), steps=0)
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1"):
        sft.train(policy, task, task.train(4), checkpoint_every=0)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        grpo.train(policy, task, task.train(4), temperature=0.0)
    with pytest.raises(ValueError, match="expected one of answer, solution"):
        sft.train(policy, task, task.train(4), target="essay")
    with pytest.raises(ValueError, match="no text to imitate"):
        sft.train(policy, task, [rftlab.Problem("2 + 2 =", "")])
    policy.model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that trains"):
        grpo.train(policy, task, task.train(4))


@pytest.mark.parametrize("method", [grpo, sft])
def test_float16_gives_the_gradient_of_float32(task, method):
    """Both from the same weights; without the scaling, the smallest gradients would be rounded to zero."""
    norms, moved = [], []
    for dtype in ("float32", "float16"):
        policy = rftlab.load_policy("tiny", lora=rftlab.LoraSpec(rank=4, alpha=8), dtype=dtype)
        before = weights(policy)
        given = {"reward_fn": by_length} if method is grpo else {}
        record = method.train(policy, task, task.train(8), steps=1, max_new_tokens=8, lr=1e-3, **given)
        norms.append(record.metrics[0]["grad_norm"])
        moved.append(weights(policy) - before)
    if method is sft:  # rollouts in another type draw other tokens
        assert norms[1] == pytest.approx(norms[0], rel=0.02)
        assert torch.nn.functional.cosine_similarity(*moved, dim=0) > 0.95
    assert 0.2 < norms[1] / norms[0] < 5 and moved[1].abs().max() > 0


def test_all_weights_do_not_train_in_float16(task):
    with pytest.raises(ValueError, match="float16 is too narrow.*LoraSpec"):
        sft.train(rftlab.load_policy("tiny", dtype="float16"), task, task.train(2), steps=1)
