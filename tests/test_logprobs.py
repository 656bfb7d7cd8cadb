"""Log-probabilities: the packed, head-saving computation equals the plain one, in value and gradient."""
import pytest
import torch

from rftlab.logprobs import SHORTEST, completion_log_probs, head_log_probs, pack, shared_beginning


@pytest.fixture(scope="module", params=[False, True], ids=["transformers' attention", "grouped attention"])
def model(request):
    from transformers import LlamaConfig, LlamaForCausalLM

    from rftlab import attention

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=97, tie_word_embeddings=False)).eval()
    if request.param:
        model.set_attn_implementation(attention.NAME)
    return model


def batch(words=97, seed=0, shared=0):
    """2 prompts of lengths 3 and 5 after so many that they share, 3 completions each, of lengths 1 to 4, of so many different tokens."""
    generator = torch.Generator().manual_seed(seed)
    prompt_mask = torch.tensor([[0, 0] + [1] * (3 + shared), [1] * (5 + shared)])
    completion_mask = torch.arange(4) < torch.tensor([[4], [1], [3], [2], [4], [2]])
    own, completions = torch.randint(97, (2, 5), generator=generator), torch.randint(words, (6, 4), generator=generator)
    both = torch.randint(97, (shared,), generator=generator)
    prompts = torch.stack([torch.cat([own[0, :2], both, own[0, 2:]]), torch.cat([both, own[1]])])
    return prompts, prompt_mask, completions, completion_mask


def plain(model, prompt_ids, prompt_mask, completion_ids, completion_mask, temperature=1.0):
    """One completion at a time, no padding, the full logits: slow and obvious."""
    G = len(completion_ids) // len(prompt_ids)
    rows = []
    for i, (ids, keep) in enumerate(zip(completion_ids, completion_mask)):
        prompt = prompt_ids[i // G][prompt_mask[i // G].bool()]
        logits = model(torch.cat([prompt, ids[keep]])[None]).logits[0] / temperature
        scores = logits.log_softmax(-1)[len(prompt) - 1:-1]
        rows.append(torch.nn.functional.pad(scores.gather(-1, ids[keep][:, None])[:, 0], (0, len(ids) - int(keep.sum()))))
    return torch.stack(rows)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("words", [97, 2, 1], ids=["all differ", "some agree", "all agree"])
@pytest.mark.parametrize("shared", [0, 20], ids=["", "prompts begin alike"])
def test_equal_to_the_plain_way(model, temperature, words, shared):
    log_probs = completion_log_probs(model, *batch(words, shared=shared), temperature)
    assert torch.allclose(log_probs, plain(model, *batch(words, shared=shared), temperature), atol=1e-5)
    mask = batch()[3]
    assert (log_probs[~mask] == 0).all() and (log_probs[mask] < 0).all()


@pytest.mark.parametrize("frozen_head", [True, False])
@pytest.mark.parametrize("words", [97, 2, 1], ids=["all differ", "some agree", "all agree"])
@pytest.mark.parametrize("shared", [0, 20], ids=["", "prompts begin alike"])
def test_gradient_equals_the_plain_ones(model, frozen_head, words, shared):
    model.get_output_embeddings().weight.requires_grad_(not frozen_head)
    weights = torch.randn(6, 4, generator=torch.Generator().manual_seed(3)) * batch()[3]
    grads = []
    for f in (completion_log_probs, plain):
        model.zero_grad()
        (f(model, *batch(words, shared=shared), 0.7) * weights).sum().backward()
        grads.append({n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad})
    model.get_output_embeddings().weight.requires_grad_(True)
    for name, grad in grads[0].items():
        assert torch.allclose(grad, grads[1][name], atol=1e-5, rtol=1e-4), name


def test_what_prompts_begin_with_by_hand():
    alike, pad = list(range(SHORTEST)), 96

    def taken_off(*prompts):
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        beginning, rest, kept = shared_beginning(ids, mask)
        assert [beginning[0].tolist() + row[keep.bool()].tolist() for row, keep in zip(rest, kept)] == list(prompts)
        return beginning.shape[1], kept.sum(1).tolist()

    assert taken_off(alike + [50], alike + [51, 52, 53]) == (SHORTEST, [1, 3])
    assert taken_off(alike + [50, 51], alike + [50, 52]) == (SHORTEST + 1, [1, 1])
    assert taken_off(alike + [50], alike + [50]) == (SHORTEST, [1, 1])  # a token is left to each
    assert taken_off(alike + [50], alike + [50, 51], alike + [50, 51, 52]) == (SHORTEST, [1, 2, 3])
    assert taken_off(alike[:-1] + [50], alike[:-1] + [51]) == (0, [SHORTEST, SHORTEST])  # too short
    assert taken_off(alike, alike) == (0, [SHORTEST, SHORTEST])
    assert taken_off(alike + [50]) == (0, [SHORTEST + 1])  # nobody to share with
    assert taken_off([50] + alike, [51] + alike) == (0, [SHORTEST + 1] * 2)


def test_what_prompts_begin_with_is_computed_once(model, monkeypatch):
    read, forward = [], model.base_model.forward
    monkeypatch.setattr(model.base_model, "forward", lambda **kw: read.append(kw["input_ids"].shape) or forward(**kw))
    completion_log_probs(model, *batch(shared=20))
    assert [len(rows) for rows in read] == [2, 2] and read[0] == (1, 20) and read[1][0] == 2
    read.clear()
    completion_log_probs(model, *batch())
    assert len(read) == 1 and read[0][0] == 2


def test_a_completion_does_not_see_its_siblings(model):
    ids, prompt_mask, completions, mask = batch()
    before = completion_log_probs(model, ids, prompt_mask, completions, mask)
    changed = completions.clone()
    changed[1] = (changed[1] + 1) % 97
    after = completion_log_probs(model, ids, prompt_mask, changed, mask)
    others = [0, 2, 3, 4, 5]
    assert torch.allclose(before[others], after[others], atol=1e-6)
    assert not torch.allclose(before[1], after[1], atol=1e-3)


def test_padding_ids_are_irrelevant(model):
    ids, prompt_mask, completions, mask = batch()
    other = completions.masked_fill(~mask, 42)
    assert torch.equal(completion_log_probs(model, ids, prompt_mask, completions, mask),
                       completion_log_probs(model, ids, prompt_mask, other, mask))


def test_pack_computes_the_prompt_once_and_no_last_token():
    ids, positions, attention, source, owner = pack(*batch(), 3)
    assert ids.shape == (2, 5 + 5)  # 5 prompt columns; (4-1)+(1-1)+(3-1) = 5 fed tokens, the other row has 5 as well
    assert source[0, 0, :2].tolist() == [4, 5]  # first token: last prompt column; second: the first fed one
    assert positions[0, 5:].tolist() == [3, 4, 5, 3, 4]  # a prompt of 3 tokens comes before each completion
    assert owner[0, :, 0].tolist() == [0, 1, 2]


def test_pack_lays_out_what_siblings_share_once():
    """By hand: a b c, a b d e and f b: of the different texts those that something follows."""
    a, b, c, d, e, f = range(10, 16)
    completions = torch.tensor([[a, b, c, 0], [a, b, d, e], [f, b, 0, 0]])
    mask = torch.arange(4) < torch.tensor([[3], [4], [2]])
    ids, positions, attention, source, owner = pack(torch.tensor([[7, 8]]), torch.tensor([[1, 1]]), completions, mask, 3)
    assert ids.tolist() == [[7, 8, a, b, d, f]] and positions.tolist() == [[0, 1, 2, 3, 4, 2]]
    assert owner.tolist() == [[[0, 0, 0, 0], [0, 0, 1, 1], [2, 2, 2, 2]]]  # masked ones are their own
    assert source[0][mask].tolist() == [1, 2, 3, 1, 2, 3, 4, 1, 5]  # the column before each token
    seen = [[ids[0, j].item() for j in range(6) if attention[0, 0, i, j]] for i in range(6)]
    assert seen == [[7], [7, 8], [7, 8, a], [7, 8, a, b], [7, 8, a, b, d], [7, 8, f]]


def test_a_completion_that_is_masked_out_shares_nothing(model):
    """An update leaves out completions without an advantage; a sibling that says the same must not lose its own tokens by it."""
    ids, prompt_mask, completions, mask = batch(1)
    mask = mask.clone()
    mask[0] = False
    assert torch.allclose(completion_log_probs(model, ids, prompt_mask, completions, mask),
                          plain(model, ids, prompt_mask, completions, mask), atol=1e-5)


def test_a_uniform_head_and_a_hopeless_target():
    head = torch.nn.Linear(8, 50, bias=False).requires_grad_(False)
    head.weight.zero_()
    log_probs = head_log_probs(torch.randn(3, 8), head, torch.tensor([0, 7, 49]))
    assert torch.allclose(log_probs, -torch.tensor(50.0).log().expand(3))
    head.weight[0] = 100.0  # probability e^-800 elsewhere: zero in float32, its logarithm is not
    assert torch.allclose(head_log_probs(torch.ones(1, 8), head, torch.tensor([3])), torch.tensor([-800.0]))


def test_uneven_groups_are_refused(model):
    ids, prompt_mask, completions, mask = batch()
    with pytest.raises(ValueError, match="cannot be shared out evenly"):
        completion_log_probs(model, ids, prompt_mask, completions[:5], mask[:5])


def test_padding_on_the_left_is_no_nan_while_gradients_flow(model):
    """A padded row may look nowhere; what it computes is nobody's business, but it must be a number."""
    ids, mask, *_ = batch()
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
    logits = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(logits[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-5)
    logits[mask.bool()].sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    model.zero_grad()
