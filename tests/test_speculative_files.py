"""Speculators are trained, saved and loaded; what does not fit is refused in words."""
import os
import signal

import pytest
import torch

import rftlab
from rftlab import speculative
from rftlab.loop import Stopped
from rftlab.speculative import files, training
from toy_model import toy_policy

NEW = 16


@pytest.fixture(scope="module")
def task():
    return rftlab.load_task("arithmetic")


@pytest.fixture(scope="module")
def train_prompts(task):
    return [p.prompt for p in task.train(24, seed=0)]


@pytest.fixture(scope="module")
def policy():
    return rftlab.load_policy("tiny")


@pytest.mark.parametrize("chained", [True, False])
def test_heads_learn_and_only_heads(policy, train_prompts, chained):
    before = [p.clone() for p in policy.model.parameters()]
    heads, record = speculative.train_heads(policy, train_prompts, k=2, chained=chained, steps=25, lr=3e-3, max_new_tokens=NEW,
                                            eval_prompts=train_prompts[:8])
    assert all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters()))
    assert all(p.requires_grad and p.grad is None for p in policy.model.parameters())
    first, last = record.metrics[0], record.metrics[-1]
    assert record.arm == "turbo" and last["loss"] < 0.7 * first["loss"] and last["tokens_per_pass"] > first["tokens_per_pass"]
    assert record.final["tokens_per_pass"]["mean"] > 1.2 and record.final["tokens_per_pass"]["n"] == 8
    assert policy.speculators["turbo"] is heads and not any(p.requires_grad for p in heads.parameters())


@pytest.mark.parametrize("new, kept", [(1, set()), (2, {"tokens_per_pass"})])
def test_short_answers_do_not_cost_the_training(policy, train_prompts, tmp_path, new, kept):
    """Of one token there is nothing to guess; of two, the last is the rule's own and no guess is tested."""
    _, record = speculative.train_heads(policy, train_prompts, k=2, steps=2, eval_prompts=train_prompts[:2], max_new_tokens=new)
    assert set(record.final) == kept
    record.save(tmp_path / "record.json")


def test_the_heads_loss_by_hand():
    """Two tokens after the first, both guessed by heads of zeros as the model's own head guesses: from the same state."""
    toy = toy_policy(2)
    heads = speculative.Heads(16, 2)
    hidden, ids, mask = torch.randn(1, 3, 16), torch.tensor([[2, 3, 4]]), torch.ones(1, 3, dtype=torch.bool)
    own = toy.model.lm_head(hidden[0]).log_softmax(-1)
    loss, metrics = training.heads_loss(toy, heads, hidden, ids, mask)
    expected = -(own[0, 3] + own[1, 4]) / 2 - 0.8 * own[0, 4]
    assert torch.allclose(loss, expected, atol=1e-5)
    assert metrics["head_1"] == ((own[0].argmax() == 3).float() + (own[1].argmax() == 4).float()) / 2


def test_what_teacher_forcing_measures_is_what_decoding_does(policy, train_prompts):
    """A chain of heads sees the drafted tokens; where they are right, those are the true ones."""
    heads, _ = speculative.train_heads(policy, train_prompts, k=1, steps=10, lr=3e-3, max_new_tokens=NEW)
    data = training.examples(policy, train_prompts, max_new_tokens=NEW)
    hidden = training._hidden(policy.model, data)
    right = training.heads_loss(policy, heads, hidden, data.ids, data.mask)[1]["head_1"]
    out = speculative.decode(policy, train_prompts, heads, NEW)
    # decoding skips the positions after each accepted draft, so the shares agree roughly, not exactly
    assert out.acceptance_rate == pytest.approx(right, abs=0.15)


def test_joint_training_moves_both(task):
    policy = rftlab.load_policy("tiny", lora=rftlab.LoraSpec(rank=2, alpha=4))
    problems = [p for p in task.train(16, seed=0)]
    heads, record = speculative.train_heads(policy, [p.prompt for p in problems], [p.answer for p in problems], joint=True, k=2,
                                            steps=6, rows_per_step=16, lr=1e-3)  # all rows in each step, so that losses compare
    assert record.arm == "turbo_lora" and record.metrics[-1]["policy_loss"] < record.metrics[0]["policy_loss"]
    assert all(a.B.abs().max() > 0 for a in policy.adapters.values()) and heads.W.abs().max() > 0
    prompts = [p.prompt for p in problems]
    assert policy.generate(prompts, 8, speculate="turbo") == policy.generate(prompts, 8)
    with pytest.raises(ValueError, match="joint training needs adapters"):
        speculative.train_heads(rftlab.load_policy("tiny"), prompts, joint=True)


def test_a_draft_model_learns_and_shares_what_it_should(policy, train_prompts):
    draft, record = speculative.train_draft(policy, train_prompts, layers=1, steps=8, max_new_tokens=NEW)
    assert record.metrics[-1]["loss"] < record.metrics[0]["loss"]
    assert draft.model.get_output_embeddings().weight is policy.model.get_output_embeddings().weight
    assert draft.layers == 1 and len(policy.model.model.layers) == 4 and not any("embed" in n for n in draft.parameters())
    assert all(p.requires_grad and p.grad is None for p in policy.model.parameters())


def test_killed_and_resumed_is_the_same_as_never_stopped(policy, train_prompts, tmp_path):
    def run(steps=6, **more):
        heads, record = speculative.train_heads(policy, train_prompts, k=2, steps=steps, rows_per_step=4, max_new_tokens=NEW, **more)
        return heads.W.detach().clone(), record.without_times()

    weight, record = run()
    path = tmp_path / "heads.pt"
    with pytest.raises(Stopped, match="stopped after step 3 of 6"):
        run(checkpoint=path, on_step=lambda m: m["step"] == 3 and os.kill(os.getpid(), signal.SIGINT))
    again, resumed = run(checkpoint=path)
    assert torch.equal(again, weight) and resumed == record
    with pytest.raises(ValueError, match="belongs to another run"):
        speculative.train_heads(policy, train_prompts, k=2, steps=6, rows_per_step=5, max_new_tokens=NEW, checkpoint=path)


def heads_of(policy, k=2):
    heads = speculative.Heads(policy.model.config.hidden_size, k, vocabulary=[1, 2, 3])
    torch.nn.init.normal_(heads.W, std=0.1)
    return heads


def test_saved_beside_the_adapter_and_found_again(tmp_path, train_prompts):
    policy = rftlab.load_policy("tiny", lora=rftlab.LoraSpec(rank=2, alpha=4))
    for adapter in policy.adapters.values():
        adapter.B.data.normal_(std=0.05)
    policy.after_step()
    policy.speculators = {"turbo": heads_of(policy), "draft": speculative.DraftModel.of(policy, 2, 3)}
    policy.save(tmp_path)
    assert {f.name for f in tmp_path.iterdir()} >= {"adapter_model.safetensors", "speculator-turbo.safetensors", "speculator-draft.safetensors"}
    for dtype in ("float32", "bfloat16"):
        again = rftlab.load_policy("tiny", lora=tmp_path, dtype=dtype)
        texts = again.generate(train_prompts[:4], 8, speculate="turbo")
        assert dtype == "bfloat16" or texts == policy.generate(train_prompts[:4], 8)
        heads = again.speculators["turbo"]
        assert torch.equal(heads.W, policy.speculators["turbo"].W) and heads.k == 2 and heads.vocabulary.tolist() == [1, 2, 3]
    draft = speculative.load(rftlab.load_policy("tiny", lora=tmp_path), files.file_of(tmp_path, "draft"))
    assert draft.k == 3 and all(torch.equal(p, policy.speculators["draft"].parameters()[n]) for n, p in draft.parameters().items())


def test_for_another_model_weights_or_tokenizer(tmp_path, policy):
    path = speculative.save(heads_of(policy), policy, tmp_path)
    tuned = rftlab.load_policy("tiny")
    with torch.no_grad():
        tuned.model.model.layers[0].mlp.up_proj.weight.mul_(1.1)
    with pytest.raises(ValueError, match="made for other weights of this model.*other_weights=True"):
        speculative.load(tuned, path)
    heads = speculative.load(tuned, path, other_weights=True)
    assert tuned.generate(["12 + 34 ="], 12, speculate=heads) == tuned.generate(["12 + 34 ="], 12)
    with pytest.raises(ValueError, match="made for another model: .*hidden_size is 128 there and 16 here"):
        speculative.load(toy_policy(), path, other_weights=True)
    tuned.tokenizer.add_tokens(["<new>"])
    with pytest.raises(ValueError, match="tokenizer is '"):
        speculative.load(tuned, path, other_weights=True)
    with pytest.raises(ValueError, match="nothing to save"):
        speculative.save(speculative.NGram(), policy, tmp_path)


@pytest.mark.parametrize("damage, message", [
    (lambda b: b[: len(b) // 2], "is damaged"), (lambda b: b"", "is damaged"), (lambda b: b[:-5] + b"\x01\x02\x03\x04\x05", "checksum")])
def test_a_damaged_file(tmp_path, policy, damage, message):
    path = speculative.save(heads_of(policy), policy, tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        speculative.load(policy, path)


def test_a_file_that_is_no_speculator(tmp_path, policy):
    from safetensors.torch import save_file

    with pytest.raises(ValueError, match="there is no speculator at"):
        speculative.load(policy, tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is no speculator of this version"):
        speculative.load(policy, tmp_path / "other.safetensors")
