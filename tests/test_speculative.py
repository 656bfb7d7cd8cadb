"""Speculative decoding changes no answer: token for token when greedy, in distribution when sampled."""
from collections import Counter

import pytest
import torch
from hypothesis import given, settings, strategies as st

import rftlab
from rftlab import rollout, speculative
from rftlab.speculative import rule
from rftlab.speculative.decode import Text
from rftlab.speculative.late import Late
from toy_model import END, V, toy_policy

NEW = 16


@pytest.fixture(scope="module")
def prompts():
    arithmetic, countdown = (rftlab.load_task(name) for name in ("arithmetic", "countdown"))
    return [p.prompt for p in [*arithmetic.test(150), *countdown.test(50)]]


@pytest.fixture(scope="module")
def policy():
    """tiny with heads and a draft model that are trained a little: good enough to be often right, and often wrong."""
    policy = rftlab.load_policy("tiny")
    train = [p.prompt for p in rftlab.load_task("arithmetic").train(48, seed=0)]
    speculative.train_heads(policy, train, k=3, steps=40, max_new_tokens=NEW, lr=3e-3)
    speculative.train_draft(policy, train, k=3, layers=2, steps=20, max_new_tokens=NEW)
    return policy


@pytest.fixture(scope="module")
def plain(policy, prompts):
    """Greedy answers by `rftlab.rollout`, which has another loop, another cache and transformers' own forward."""
    r = rollout.rollout(policy, prompts, 1, NEW, 0.0)
    return [ids[keep].tolist() for ids, keep in zip(r.completion_ids, r.completion_mask)]


# --- greedy: token for token ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, rows", [(None, 16), *((name, rows) for name in ("ngram", "draft", "turbo") for rows in (1, 16))])
def test_greedy_is_identical_on_200_prompts(policy, prompts, plain, name, rows):
    out = speculative.decode(policy, prompts, speculative.find(policy, name), NEW, max_rows=rows)
    assert len(plain) == 200 and out.tokens == plain
    if name:
        assert out.tested > out.accepted > 0, "a test of nothing: all drafts kept, or none"
        assert sum(map(sum, out.drafted)) <= out.accepted and 1 < out.tokens_per_pass < 4
    else:
        assert out.tested == 0 and out.tokens_per_pass == 1


def test_one_call(policy, prompts):
    texts = policy.generate(prompts[:20], NEW, speculate="turbo", k=2)
    assert texts == policy.generate(prompts[:20], NEW) == policy.generate(prompts[:20], NEW, speculate=speculative.NGram(k=1))
    assert policy.generate(prompts[:3], NEW) == texts[:3]  # few rows: the lean loop


class Oracle:
    """Drafts what it was told: k tokens from a script, and then from another."""

    kind, k = "oracle", 3

    def __init__(self, script, k=3):
        self.script, self.k = script, k

    def begin(self, policy, text, capacity):
        self.start = text.lengths.clone()

    def select(self, rows):
        self.start = self.start[rows]

    def draft(self, text, count, sampling):
        done = (text.lengths - self.start).tolist()
        rows = [(self.script[d:] + [2] * count)[:count] for d in done]
        return torch.tensor(rows), torch.full_like(text.lengths, count), None


def test_a_perfect_draft_and_an_end_inside_the_accepted_block(policy, prompts, plain):
    answer = next(a for a in plain if a[-1] in policy.end_ids and 6 <= len(a) <= 14)
    prompt = [prompts[plain.index(answer)]]
    out = speculative.decode(policy, prompt, Oracle(answer + answer, k=8), NEW)
    assert out.tokens == [answer] and out.drafted[0] == [False] + [(i % 9 != 0) for i in range(1, len(answer))]
    assert out.passes == -(-(len(answer) - 1) // 9)
    cut = speculative.decode(policy, prompt, Oracle(answer, k=8), 4)
    assert cut.tokens == [answer[:4]] and cut.passes == 1


def test_after_the_first_mismatch_everything_is_discarded():
    """The drafts after the wrong one agree with the target, and are still thrown away."""
    target = torch.tensor([[3, 4, 5, 6]])
    logits = torch.nn.functional.one_hot(target, V).float()
    accepted, after = rule.accept_greedy(logits, torch.tensor([[3, 2, 5]]), torch.tensor([3]))
    assert (accepted.tolist(), after.tolist()) == ([1], [4])
    padded = rule.accept_greedy(logits, torch.tensor([[3, 4, 5]]), torch.tensor([2]))
    assert (padded[0].tolist(), padded[1].tolist()) == ([2], [5])


@pytest.mark.parametrize("k", [1, 2, 5])
def test_prompts_of_length_one_and_rows_that_end_at_different_times(k):
    toy = toy_policy(3)
    prompts = [[2], [3], [4, 5, 6, 2, 2], [5], [6, 6], [2, 3]]
    expected = speculative.decode(toy, prompts, None, 12, max_rows=1)
    assert len({len(t) for t in expected.tokens}) > 2
    heads = random_heads(toy, k)
    for speculator in (speculative.NGram(k), speculative.DraftModel.of(toy, 1, k), heads, Oracle([2, 3, 4], k)):
        out = speculative.decode(toy, prompts, speculator, 12)
        assert out.tokens == expected.tokens
        assert max(out.row_passes) <= 11 and out.passes <= expected.passes
    assert all(len(t) == 12 or t[-1] == END for t in expected.tokens)


def random_heads(policy, k, chained=True, vocabulary=(1, 2, 3, 5)):
    generator = torch.Generator().manual_seed(k)
    heads = speculative.Heads(policy.model.config.hidden_size, k, chained, vocabulary)
    with torch.no_grad():
        for weight in heads.parameters():
            weight.normal_(std=0.3, generator=generator)
    return heads


def test_ngram_by_hand():
    def draft(ids, count=4, sizes=(3, 2)):
        text = Text(torch.tensor([ids]), torch.tensor([len(ids)]))
        tokens, counts, probs = speculative.NGram(count, sizes).draft(text, count, None)
        assert probs is None
        return tokens[0, : int(counts[0])].tolist()

    assert draft([5, 6, 7, 8, 9, 1, 5, 6, 7]) == [8, 9, 1, 5]
    assert draft([5, 6, 1, 5, 6, 2, 5, 6]) == [2, 5, 6, 2], "the latest match, and round in a circle"
    assert draft([4, 4, 4, 4]) == [4, 4, 4, 4]
    assert draft([1, 2, 3, 4]) == draft([3, 3]) == draft([7]) == []
    assert draft([9, 6, 7, 8, 2, 6, 7, 3, 9, 6, 7]) == [8, 2, 6, 7], "the longest match first"
    ragged = Text(torch.tensor([[5, 6, 1, 5, 6, 0], [1, 2, 3, 4, 5, 0]]), torch.tensor([5, 5]))
    assert speculative.NGram(2).draft(ragged, 2, None)[1].tolist() == [2, 0]


# --- sampling: the same distribution ----------------------------------------------------------------------------------

P, Q = torch.tensor([0.1, 0.4, 0.2, 0.3, 0.0]), torch.tensor([0.5, 0.2, 0.2, 0.0, 0.1])


def apply_rule(p, draft, q, accept, redraw):
    """(was the draft kept, the token that follows) for one draft with fixed random numbers; the next token is 0."""
    target = torch.stack([p, torch.eye(len(p))[0]])[None]
    uniform = torch.tensor([[[accept, redraw], [0.0, 0.0]]])
    accepted, after = rule.accept_sampled(target, torch.tensor([[draft]]), torch.tensor([1]), None if q is None else q[None, None], uniform)
    return bool(accepted), int(after)


def test_the_rule_by_hand():
    """p = .1 .4 .2 .3 0, q = .5 .2 .2 0 .1: token 0 is kept with probability .1/.5; the residual is (0, .2, 0, .3, 0) / .5."""
    assert apply_rule(P, 0, Q, 0.19, 0.0)[0] and not apply_rule(P, 0, Q, 0.21, 0.0)[0]
    assert all(apply_rule(P, token, Q, 0.999, 0.0)[0] for token in (1, 2))
    assert not apply_rule(P, 4, Q, 0.0, 0.0)[0], "the target never says 4"
    assert [apply_rule(P, 0, Q, 0.9, u)[1] for u in (0.0, 0.39, 0.41, 0.999)] == [1, 1, 3, 3]
    assert apply_rule(P, 1, None, 0.39, 0.0)[0] and not apply_rule(P, 1, None, 0.41, 0.0)[0]
    assert [apply_rule(P, 1, None, 0.9, u)[1] for u in (0.0, 0.16, 0.17, 0.49, 0.51, 0.999)] == [0, 0, 2, 2, 3, 3]


def output_distribution(p, q, cells=120):
    """The distribution of the token that results from one draft, the random numbers on a grid in place of drawn."""
    grid = (torch.arange(cells) + 0.5) / cells
    first = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).view(-1, 1, 2)
    uniform = torch.cat([first, torch.full_like(first, 0.5)], 1)
    target = torch.stack([p, p])[None].expand(len(uniform), -1, -1)
    counts = torch.ones(len(uniform), dtype=torch.long)
    total = torch.zeros(len(p))
    for token, share in enumerate(torch.ones(1) if q is None else q):
        draft = torch.full((len(uniform), 1), int(p.argmin()) if q is None else token)
        accepted, after = rule.accept_sampled(target, draft, counts, None if q is None else q.expand(len(uniform), 1, -1), uniform)
        token_out = torch.where(accepted > 0, draft[:, 0], after)
        total += share * torch.bincount(token_out, minlength=len(p)) / len(uniform)
    return total


weights = st.lists(st.integers(0, 20), min_size=5, max_size=5).filter(any).map(lambda w: torch.tensor(w, dtype=torch.float32) / sum(w))


@settings(max_examples=25, deadline=None)
@given(p=weights, q=st.one_of(st.none(), weights))
def test_any_draft_leaves_the_distribution_as_it_was(p, q):
    assert torch.allclose(output_distribution(p, q), p, atol=2.5 / 120)


def test_a_wrong_rule_would_be_noticed():
    """Drawing anew from p, not from what q left, is the usual mistake."""
    wrong = torch.minimum(P, Q) + (1 - torch.minimum(P, Q).sum()) * P
    assert (wrong - P).abs().max() > 4 * 2.5 / 120


def test_adjusted_equals_transformers():
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(0)) * 2
    for temperature, top_p in ((1.0, 1.0), (0.7, 0.8), (1.5, 0.3), (1.0, 1e-6)):
        theirs = TopPLogitsWarper(top_p)(None, TemperatureLogitsWarper(temperature)(None, logits))
        assert torch.allclose(rule.adjusted(logits, temperature, top_p), theirs.softmax(-1), atol=1e-6)


@torch.no_grad()
def exact(policy, prompt, length, temperature, top_p):
    """The probability of every sequence of `length` tokens or fewer that end, by the model's own forward."""
    done, open_ = Counter(), {(): 1.0}
    for _ in range(length):
        texts = list(open_)
        logits = policy.model(input_ids=torch.tensor([[*prompt, *t] for t in texts])).logits[:, -1]
        probs, longer = rule.adjusted(logits, temperature, top_p), {}
        for text, row in zip(texts, probs.tolist()):
            for token, p in enumerate(row):
                if p > 0:
                    (done if token == END else longer)[(*text, token)] = open_[text] * p
        open_ = longer
    return done | open_


@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (1.6, 1.0), (0.9, 0.8)])
@pytest.mark.parametrize("make", [
    lambda p: None, lambda p: speculative.NGram(2, sizes=(2, 1)), lambda p: speculative.DraftModel.of(p, 1, 2),
    lambda p: random_heads(p, 2)], ids=["plain", "ngram", "draft", "turbo"])
def test_sampled_sequences_have_the_exact_distribution(make, temperature, top_p):
    """Chi-square of 6000 sequences of 4 tokens against their exact probabilities, one seed of which the outcome is known to hold."""
    from scipy.stats import chisquare

    toy, prompt, n = toy_policy(5), [3, 4, 3, 4], 6000
    expected = exact(toy, prompt, 4, temperature, top_p)
    assert sum(expected.values()) == pytest.approx(1, abs=1e-4)
    speculator = make(toy)
    out = speculative.decode(toy, [prompt] * n, speculator, 4, temperature, top_p, seed=1, max_rows=n)
    counts = Counter(map(tuple, out.tokens))
    assert set(counts) <= set(expected)
    if speculator:
        assert out.tested > out.accepted > n / 20
    common = sorted(expected, key=expected.get, reverse=True)[:40]
    groups = [[t] for t in common if expected[t] * n > 8]
    groups.append([t for t in expected if [t] not in groups])
    pairs = [(sum(counts[t] for t in group), n * sum(expected[t] for t in group)) for group in groups]
    observed, wanted = zip(*[pair for pair in pairs if pair[1] > 5])
    assert len(wanted) > 20
    assert chisquare(observed, [w * sum(observed) / sum(wanted) for w in wanted]).pvalue > 1e-3


def test_a_sampled_row_does_not_depend_on_its_neighbours():
    toy = toy_policy(5)
    prompts = [[2], [3, 4, 3], [4], [6, 2], [3]]
    draft = speculative.DraftModel.of(toy, 1, 3)
    one, all_ = (speculative.decode(toy, prompts, draft, 10, 1.0, seed=2, max_rows=rows) for rows in (1, 5))
    assert one.tokens == all_.tokens != speculative.decode(toy, prompts, draft, 10, 1.0, seed=3).tokens


# --- bad input --------------------------------------------------------------------------------------------------------

def test_bad_input(policy):
    with pytest.raises(ValueError, match="non-empty list"):
        speculative.decode(policy, "What is 1 + 1?")
    with pytest.raises(ValueError, match="0 < top_p <= 1"):
        policy.generate(["Hi"], top_p=0.0)
    with pytest.raises(ValueError, match="expected None, \"ngram\""):
        policy.generate(["Hi"], speculate="medusa")
    with pytest.raises(ValueError, match="without a speculator"):
        policy.generate(["Hi"], k=3)
    with pytest.raises(ValueError, match="at most 3, the number of its heads"):
        policy.generate(["Hi"], speculate="turbo", k=4)
    with pytest.raises(ValueError, match="10000 drafts exceed this model's context of 1024"):
        policy.generate(["Hi"], speculate="ngram", k=10000)
    with pytest.raises(ValueError, match="has no tokens"):
        speculative.decode(toy_policy(), [[2], []])
    with pytest.raises(ValueError, match="no speculator 'turbo'.*train_heads"):
        rftlab.load_policy("tiny").generate(["Hi"], speculate="turbo")
    with pytest.raises(ValueError, match="fewer than the target's 2"):
        speculative.DraftModel.of(toy_policy(), 2)


def test_late_drafts_only_when_few_rows_are_left_and_changes_nothing():
    policy, task = rftlab.load_policy("tiny"), rftlab.load_task("arithmetic")
    prompts = [p.prompt for p in task.test(6)]
    plain = speculative.decode(policy, prompts, None, 24)
    for rows, some in ((1, None), (6, True)):
        late = speculative.decode(policy, prompts, Late(speculative.Heads(128, 3), rows), 24)
        assert late.tokens == plain.tokens and (some is None or late.tested > 0)
    never = speculative.decode(policy, prompts, Late(speculative.Heads(128, 3), 1), 2)
    assert never.tested == 0  # six rows to the end
    with pytest.raises(ValueError, match="at least 1"):
        Late(speculative.Heads(128, 3), 0)
