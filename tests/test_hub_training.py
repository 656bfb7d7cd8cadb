"""TRL's trainers and ours do the same thing with the same completions; rewards, tasks and problems go in unchanged."""
import asyncio
import importlib.util
import os
import subprocess
import sys

import pytest
import torch

import rftlab
from rftlab import advantages, grpo, losses, rewards
from rftlab.logprobs import completion_log_probs
from rftlab.monitor import Monitor
from rftlab.rollout import rollout

pytest.importorskip("trl")
os.environ["RFTLAB_BACKEND"] = "transformers"  # Unsloth patches the libraries when it is imported: it gets a process of its own
from rftlab import hub_training  # noqa: E402


@pytest.fixture(scope="module")
def task():
    return rftlab.load_task("arithmetic", level=1)


class OneStep:
    """What grpo.update needs of a Loop: gradients are kept, nothing is stepped."""

    def backward(self, loss):
        loss.backward()

    def step_optimizer(self):
        return 0.0


@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_loss_and_gradient_equal_trls_on_the_same_rollout(task, tmp_path, kl_coef):
    """The whole way, from token ids through rewards, advantages, log-probabilities and loss, on `tiny`."""
    problems, reward = task.train(3), rewards.combine({rewards.verifier(task): 1.0, rewards.brevity(8): 0.5})
    ours, theirs = rftlab.load_policy("tiny"), hub_training.load("tiny", "full")
    r = rollout(ours, [p.prompt for p in problems], 4, 20, temperature=0.8, seed=3)
    values, _ = grpo.score(reward, r, problems, 0)
    assert values.std() > 0
    reference = grpo.Reference(ours) if kl_coef else None
    if reference:  # away from the reference, or the KL term and its gradient would be 0
        for model in (ours.model, theirs.model):
            with torch.no_grad():
                model.get_output_embeddings().weight.mul_(1.02)
    metrics = grpo.update(ours, r, advantages.group_relative(values), OneStep(), losses.dapo, kl_coef, reference, 1, 2, 0.8)

    trainer = hub_training.grpo_trainer(theirs, reward, problems, steps=1, prompts_per_step=3, group_size=4, max_new_tokens=20,
                                        temperature=0.8, kl_coef=kl_coef, output=tmp_path,
                                        **({"use_bias_correction_kl": False} if kl_coef else {}))
    if kl_coef:
        trainer.ref_model.load_state_dict(rftlab.load_policy("tiny").model.state_dict())
    rows = [row[keep].tolist() for row, keep in zip(r.completion_ids, r.completion_mask)]
    trainer._generate_single_turn = lambda *given, **more: (rows, None)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch = [row for row in trainer.train_dataset for _ in range(4)]
    loss = trainer.compute_loss(trainer.model, trainer._generate_and_score_completions(batch))
    loss.backward()
    assert loss.item() == pytest.approx(metrics["loss"], abs=2e-5)
    compared = 0
    for (name, one), other in zip(ours.model.named_parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=2e-5, rtol=2e-3, msg=lambda text: f"{name}: {text}")
        compared += one.grad.abs().max() > 1e-4
    assert compared > 20, "gradients that are all zero would agree too"


def test_supervised_loss_equals_trls(task, tmp_path):
    """On the same tokens: TRL trains on what the template writes after the end of the turn as well, here a newline."""
    problems = task.train(6)
    ours, theirs = rftlab.load_policy("tiny"), hub_training.load("tiny", "full")
    newline, = ours.tokenizer("\n", add_special_tokens=False)["input_ids"]
    ids, mask = rftlab.sft.encode_targets(ours, [p.solution for p in problems])
    ids, mask = (torch.nn.functional.pad(one, (0, 1)) for one in (ids, mask))
    ends = mask.sum(1, keepdim=True)
    ids, mask = ids.scatter(1, ends, newline), mask.scatter(1, ends, True)
    loss = -losses.token_mean(completion_log_probs(ours.model, *ours.encode([p.prompt for p in problems]), ids, mask), mask)
    trainer = hub_training.sft_trainer(theirs, problems, steps=1, prompts_per_step=6, lr=1e-9, output=tmp_path)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-4)


def test_async_and_several_rewards_and_metrics_of_ones_own(task, tmp_path):
    async def waits(prompts, completions, answer, **columns):
        await asyncio.sleep(0)
        return [float(one[0]["content"].strip().endswith(a)) for one, a in zip(completions, answer, strict=True)]

    def short(prompts, completions, log_metric, **columns):
        sizes = [len(one[0]["content"]) for one in completions]
        log_metric("characters", sum(sizes) / len(sizes))
        return [None if size == 0 else float(size < 20) for size in sizes]

    watch = Monitor(on_alarm=None)
    trainer = hub_training.grpo_trainer(hub_training.load("tiny", "lora", rank=4), [rewards.verifier(task), waits, short], task.train(8),
                                        steps=2, prompts_per_step=2, group_size=4, max_new_tokens=16, output=tmp_path,
                                        reward_weights=[1.0, 0.5, 0.1], callbacks=[watch.callback()])
    trainer.train()
    first, second = watch.metrics
    assert {"rewards/verifier", "rewards/waits", "rewards/short", "characters", "reward", "entropy", "length", "zero_variance",
            "tokens_per_second", "memory_mb"} <= set(first)
    assert first["reward"] == pytest.approx(first["rewards/verifier"] + 0.5 * first["rewards/waits"] + 0.1 * first["rewards/short"], abs=1e-5)
    assert (first["step"], second["step"]) == (1, 2) and 0 < first["characters"] < 200


def test_rows_of_several_formats_reach_the_verifier_as_they_are(tmp_path):
    """A plain prompt, a chat with a system turn, and columns of several types, of which each row has its own."""
    problems = rftlab.data.parse([
        {"prompt": "What is 2 + 3?", "answer": "5", "unit": "m"},
        {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2 + 4?"}, {"role": "assistant", "content": "6"}],
         "most": 3},
        {"prompt": "What is 2 + 5?", "answer": "7", "unit": 9, "many": [{"x": 1}, "y"]}]).usable().problems
    seen = {}

    def look(completion, problem):
        seen[problem.answer] = problem
        return 0.0

    task = rftlab.own_task.own_task(problems, look, test=[rftlab.data.Problem("other", "1")])
    trainer = hub_training.grpo_trainer(hub_training.load("tiny", "lora", rank=4), rewards.verifier(task), problems, steps=1,
                                        prompts_per_step=3, group_size=2, max_new_tokens=4, output=tmp_path)
    trainer.train()
    assert seen == {one.answer: one for one in problems} and seen["6"].info == problems[1].info


def test_adapters_learn_and_only_they(task, tmp_path):
    policy = hub_training.load("tiny", "lora", seed=1)
    before = {name: value.clone() for name, value in policy.model.state_dict().items() if "lora_" not in name}
    held_out = task.test(40)
    start = rftlab.evaluate.accuracy(policy, task, held_out, max_new_tokens=24)
    hub_training.grpo_trainer(policy, rewards.verifier(task), task.train(50), steps=8, lr=1e-3, max_new_tokens=24, output=tmp_path).train()
    end = rftlab.evaluate.accuracy(policy, task, held_out, max_new_tokens=24)
    assert end.mean > start.mean + 0.3, (start, end)
    after = policy.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_greedy_answers_are_those_of_our_own_rollout(task):
    prompts = [p.prompt for p in task.test(6)]
    assert hub_training.load("tiny", "full").generate(prompts, 24) == rftlab.load_policy("tiny").generate(prompts, 24)


def test_what_the_models_generation_config_asks_for_changes_no_answer(task):
    prompts, policy = [p.prompt for p in task.test(6)], hub_training.load("tiny", "full")
    greedy, drawn = policy.generate(prompts, 12), policy.generate(prompts, 12, temperature=0.7)
    policy.model.generation_config.update(
        repetition_penalty=1.3, no_repeat_ngram_size=2, num_beams=2, num_return_sequences=2, min_new_tokens=12, min_p=0.5, typical_p=0.5,
        suppress_tokens=[policy.tokenizer("1")["input_ids"][-1]], sequence_bias={(5,): 9.0}, stop_strings=["1"], guidance_scale=2.0)
    assert policy.generate(prompts, 12) == greedy and policy.generate(prompts, 12, temperature=0.7) == drawn


@pytest.mark.parametrize("prompts", ["What is 1 + 1?", []])
def test_what_is_no_list_of_prompts_is_refused(prompts):
    with pytest.raises(ValueError, match="prompts must be a non-empty list of questions"):
        hub_training.HubPolicy("tiny", None, None).generate(prompts)


def test_settings_of_ones_own_win(task, tmp_path):
    policy, problems = hub_training.load("tiny", "lora", rank=4), task.train(4)
    args = hub_training.grpo_trainer(policy, rewards.verifier(task), problems, steps=1, output=tmp_path, loss_type="grpo",
                                     per_device_train_batch_size=8, learning_rate=0.5).args
    assert (args.loss_type, args.per_device_train_batch_size, args.learning_rate) == ("grpo", 8, 0.5)
    args = hub_training.sft_trainer(policy, problems, steps=1, output=tmp_path, per_device_train_batch_size=2, seed=5).args
    assert (args.per_device_train_batch_size, args.seed) == (2, 5)


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="method='dora'; expected one of full, lora, qlora"):
        hub_training.load("tiny", "dora")
    with pytest.raises(ValueError, match="is not a folder"):
        hub_training.load(os.devnull, "full")
    monkeypatch.setattr(hub_training.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="qlora needs bitsandbytes"):
        hub_training.load("tiny", "qlora")
    monkeypatch.setenv("RFTLAB_BACKEND", "jax")
    with pytest.raises(ValueError, match="RFTLAB_BACKEND='jax'; expected unsloth or transformers"):
        hub_training.backend.__wrapped__()


WITH_UNSLOTH = """
import sys, torch, rftlab
from rftlab import hub_training, rewards
assert hub_training.backend() == "unsloth"
task = rftlab.load_task("arithmetic", level=1)
policy = hub_training.load("tiny", "lora", rank=4)
print(sum(p.numel() for p in policy.parameters), policy.generate([p.prompt for p in task.test(3)], 24))
torch.manual_seed(0)
with torch.no_grad():
    for name, p in sorted(policy.model.named_parameters()):
        if "lora_" in name:
            p.copy_(torch.randn(p.shape) * 0.02)
torch.manual_seed(0)
trainer = hub_training.grpo_trainer(policy, rewards.verifier(task), task.train(4), steps=1, prompts_per_step=4, group_size=4,
                                    max_new_tokens=16, lr=1e-9, output=sys.argv[1])
trainer.train()
print({name: trainer.state.log_history[0][name] for name in ("loss", "grad_norm", "reward", "completions/mean_length")})
sft = hub_training.sft_trainer(policy, task.train(4), steps=1, prompts_per_step=4, lr=1e-9, output=sys.argv[1])
sft.train()
print({name: sft.state.log_history[0][name] for name in ("loss", "grad_norm")})
from rftlab import deploy
merged = rftlab.load_policy(str(deploy.merged(policy, sys.argv[1] + "/merged")), dtype="float32")
ids, mask = policy.encode([p.prompt for p in task.test(3)])
with torch.no_grad():
    one, two, base = (p.model(input_ids=ids, attention_mask=mask).logits[mask.bool()] for p in (policy, merged, rftlab.load_policy("tiny")))
print((one - two).abs().max().item() < 1e-3, (one - base).abs().max().item() > 0.1)
"""
WITH_SMOLLM2 = """
import sys, rftlab
from rftlab import hub_training, rewards
task = rftlab.load_task("arithmetic", level=1)
policy = hub_training.load("smollm2", "lora", rank=4)
trainer = hub_training.grpo_trainer(policy, rewards.brevity(8), task.train(2), steps=1, prompts_per_step=2, group_size=2, max_new_tokens=4,
                                    output=sys.argv[1])
trainer.train()
print(policy.backend, trainer.state.log_history[0]["completions/mean_length"] > 0, policy.generate(["What is the capital of France?"], 8))
"""


def in_its_own_process(program, folder, kind):
    """What the program printed, as lines. Skips where Unsloth is wanted and not installed."""
    if kind == "unsloth" and importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    ran = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=900, cwd=folder,
                         env={**os.environ, "RFTLAB_BACKEND": kind, "HF_HUB_OFFLINE": "1"})
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout.strip().splitlines()


@pytest.mark.slow
def test_unsloth_gives_the_same_numbers_as_plain_transformers_and_peft(tmp_path):
    """The same adapters, the same draws: equal sizes, answers, rewards, loss and gradient norm, by GRPO and SFT; the merged weights answer
    as the adapters do. (Skipped where it is not installed.)"""
    said = {kind: in_its_own_process(WITH_UNSLOTH.replace('== "unsloth"', f'== "{kind}"'), tmp_path, kind)[-4:] for kind in ("unsloth", "transformers")}
    (size, grpo_numbers, sft_numbers, merged), plain = said["unsloth"], said["transformers"]
    assert size == plain[0]
    assert eval(grpo_numbers, {}) == pytest.approx(eval(plain[1], {}), rel=1e-4, abs=1e-6)
    assert eval(sft_numbers, {}) == pytest.approx(eval(plain[2], {}), rel=1e-4, abs=1e-6)
    assert merged == plain[3] == "True True"
    assert not (tmp_path / "unsloth_compiled_cache").exists()


@pytest.mark.slow
def test_unsloth_trains_the_real_model_on_a_cpu(tmp_path):
    try:
        rftlab.models._source("smollm2")
    except ValueError as error:
        pytest.skip(str(error).splitlines()[0])
    said = in_its_own_process(WITH_SMOLLM2, tmp_path, "unsloth")[-1]
    assert said.startswith("unsloth True") and "Paris" in said


def test_the_recorded_learning_curves_overlap():
    """What data/experiments/trl-parity.toml fixed before the runs: the interval of the difference holds 0, and the bands overlap."""
    from rftlab import records
    from rftlab.evaluate import bootstrap, difference

    runs = {arm: [run for run in records.load_all("trl-parity") if run.arm == arm] for arm in ("ours", "trl")}
    assert {arm: [run.seed for run in some] for arm, some in runs.items()} == dict.fromkeys(runs, [0, 1, 2, 3, 4])
    assert all(len(run.metrics) == 30 for some in runs.values() for run in some)
    ours, trl = ([run.final["accuracy"]["mean"] for run in runs[arm]] for arm in ("ours", "trl"))
    gap = difference(trl, ours)
    assert gap.low <= 0 <= gap.high and gap.high - gap.low < 0.1, gap
    for part in range(0, 30, 5):
        bands = [bootstrap([sum(run.curve("reward")[1][part:part + 5]) / 5 for run in runs[arm]]) for arm in runs]
        assert max(band.low for band in bands) <= min(band.high for band in bands), (part, bands)


def test_adapters_and_whole_models_do_not_share_a_folder(tmp_path):
    adapters, whole = (hub_training.load("tiny", method) for method in ("lora", "full"))
    adapters.save(tmp_path / "x")
    whole.save(tmp_path / "x")
    assert not (tmp_path / "x" / "adapter_config.json").exists()
    with pytest.raises(ValueError, match="holds a whole model"):
        adapters.save(tmp_path / "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        whole.save(tmp_path / "file")
