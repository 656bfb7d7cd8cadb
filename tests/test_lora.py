"""Adapters: equal to PEFT in forward, gradient, merged weight and file; unmerging is exact."""
import pytest
import torch

from rftlab import lora
from rftlab.lora import LoraSpec


@pytest.fixture
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=97, tie_word_embeddings=True)).eval()


IDS = torch.arange(24).view(2, 12) * 3 % 97
SPEC = LoraSpec(rank=4, alpha=8)


def randomise(adapters):
    generator = torch.Generator().manual_seed(1)
    for adapter in adapters.values():
        adapter.B.data.normal_(std=0.1, generator=generator)
    lora.merge(adapters)


def test_by_hand():
    """W = 0, B A = [1; 2] [3, 4], alpha / rank = 2: the update is 2 [[3, 4], [6, 8]]."""
    linear = torch.nn.Linear(2, 2, bias=False)
    linear.weight.data.zero_()
    adapter = lora.LoraLinear(linear, LoraSpec(rank=1, alpha=2, target_modules=("x",)), torch.Generator())
    adapter.A.data, adapter.B.data = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [2.0]])
    adapter.merge()
    assert torch.equal(adapter.weight, torch.tensor([[6.0, 8.0], [12.0, 16.0]]))
    assert torch.equal(adapter(torch.tensor([[1.0, 1.0]])), torch.tensor([[14.0, 28.0]]))


def test_a_new_adapter_changes_nothing(llama):
    before = llama(IDS).logits
    lora.attach(llama, SPEC)
    assert torch.allclose(llama(IDS).logits, before, atol=1e-6)


def test_unmerged_and_merged_agree_in_value_and_gradient(llama):
    adapters = lora.attach(llama, SPEC)
    randomise(adapters)
    results = []
    for state in (lora.merge, lora.unmerge):
        state(adapters)
        llama.zero_grad()
        logits = llama(IDS).logits
        logits.log_softmax(-1)[..., 5].sum().backward()
        results.append((logits.detach(), [p.grad.clone() for a in adapters.values() for p in (a.A, a.B)]))
    (merged, merged_grads), (apart, apart_grads) = results
    assert torch.allclose(merged, apart, atol=1e-5)
    for one, other in zip(merged_grads, apart_grads):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)
    assert all(g.abs().max() > 0 for g in merged_grads)


def test_unmerging_is_exact_in_bfloat16(llama):
    llama.bfloat16()
    weights = {n: p.clone() for n, p in llama.named_parameters()}
    adapters = lora.attach(llama, SPEC)
    for _ in range(3):
        randomise(adapters)
    lora.unmerge(adapters)
    for name, adapter in adapters.items():
        assert torch.equal(adapter.weight, weights[f"{name}.weight"])


def test_equal_to_peft_and_round_trip_through_its_files(llama, tmp_path):
    import copy

    peft = pytest.importorskip("peft")
    base = copy.deepcopy(llama)
    adapters = lora.attach(llama, SPEC)
    randomise(adapters)
    lora.save(adapters, SPEC, tmp_path / "ours", "base")
    assert lora.read_spec(tmp_path / "ours") == LoraSpec(4, 8, tuple(sorted(lora.ALL_LINEAR)))

    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "ours", is_trainable=True)
    assert torch.allclose(theirs(IDS).logits, llama(IDS).logits, atol=1e-5)
    for model in (theirs, llama):
        model(IDS).logits.log_softmax(-1)[..., 5].sum().backward()
    name = "model.layers.1.mlp.up_proj"
    other = theirs.base_model.model.get_submodule(name)
    assert torch.allclose(adapters[name].A.grad, other.lora_A["default"].weight.grad, atol=1e-4, rtol=1e-4)
    assert torch.allclose(adapters[name].B.grad, other.lora_B["default"].weight.grad, atol=1e-4, rtol=1e-4)

    theirs.save_pretrained(tmp_path / "theirs")
    again = copy.deepcopy(base)
    read = lora.attach(again, lora.read_spec(tmp_path / "theirs"))
    lora.load(read, tmp_path / "theirs")
    assert torch.allclose(again(IDS).logits, llama(IDS).logits, atol=1e-5)
    merged = theirs.merge_and_unload().get_submodule(name).weight
    assert torch.allclose(merged, read[name].weight, atol=1e-6)


def test_fold_leaves_plain_layers_with_the_same_output(llama):
    adapters = lora.attach(llama, SPEC)
    randomise(adapters)
    before = llama(IDS).logits
    lora.fold(llama, adapters)
    assert not any(isinstance(m, lora.LoraLinear) for m in llama.modules())
    assert torch.equal(llama(IDS).logits, before)


def test_base_weights_is_the_reference_and_comes_back(llama):
    before = llama(IDS).logits
    adapters = lora.attach(llama, SPEC)
    randomise(adapters)
    after = llama(IDS).logits
    with lora.base_weights(adapters):
        assert torch.equal(llama(IDS).logits, before)
    assert torch.equal(llama(IDS).logits, after) and not torch.allclose(after, before, atol=1e-3)


@pytest.mark.parametrize("merged", [True, False])
def test_snapshot_weights_are_those_of_their_time_and_leave_the_graph_alone(llama, merged):
    adapters = lora.attach(llama, SPEC)
    randomise(adapters)
    if not merged:
        lora.unmerge(adapters)
    before, taken = llama(IDS).logits.detach(), lora.snapshot(adapters)
    parameters = [(a.A, a.B) for a in adapters.values()]
    with torch.no_grad():
        for adapter in adapters.values():
            adapter.B.add_(0.1)
    if merged:
        lora.merge(adapters)
    loss = llama(IDS).logits.square().mean()
    with torch.no_grad(), lora.snapshot_weights(adapters, taken):
        assert torch.equal(llama(IDS).logits, before)
    loss.backward()
    assert llama(IDS).logits.square().mean().item() == loss.item()
    for adapter, (A, B) in zip(adapters.values(), parameters):
        assert adapter.A is A and adapter.B is B and A.grad is not None and B.grad.abs().sum() > 0


def test_dropout_by_hand_and_only_where_gradients_flow():
    """W = 0, B A x = 3 x_1 + 4 x_2, half of x dropped: what is kept counts twice."""
    linear = torch.nn.Linear(2, 1, bias=False)
    linear.weight.data.zero_()
    noise = torch.Generator().manual_seed(0)
    adapter = lora.LoraLinear(linear, LoraSpec(rank=1, alpha=1, dropout=0.5), torch.Generator(), noise)
    adapter.A.data, adapter.B.data = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0]])
    adapter.merge()
    x = torch.ones(4000, 2)
    with torch.no_grad():
        assert adapter(x).unique().tolist() == [7.0]
    values, counts = adapter(x).detach().unique(return_counts=True)
    assert values.tolist() == [0.0, 6.0, 8.0, 14.0]
    assert (counts / 4000 - 0.25).abs().max() < 0.03
    noise.manual_seed(0)
    kept = (torch.rand(x.shape, generator=noise) >= 0.5).float()
    noise.manual_seed(0)
    adapter.zero_grad()
    adapter(x).sum().backward()
    assert torch.allclose(adapter.A.grad, 2 * kept.sum(0)[None])  # dA = s B^T drop(x)


def test_dropout_is_the_same_after_resuming(tmp_path):
    import rftlab

    task, spec = rftlab.load_task("arithmetic"), LoraSpec(rank=2, alpha=4, dropout=0.3)
    common = {"prompts_per_step": 2, "group_size": 4, "max_new_tokens": 8, "reward_fn": lambda completions, **_: [len(c) % 3 for c in completions]}

    def trained(steps, checkpoint=None):
        policy = rftlab.load_policy("tiny", lora=spec, seed=0)
        rftlab.grpo.train(policy, task, task.train(4, seed=0), steps=steps, checkpoint=checkpoint, checkpoint_every=1, **common)
        return torch.cat([p.detach().flatten() for p in policy.parameters])

    trained(1, tmp_path / "run.pt")
    assert torch.equal(trained(2, tmp_path / "run.pt"), trained(2))


def test_one_name_is_one_target(llama, tmp_path):
    import json

    spec = LoraSpec(4, 8, "q_proj")
    assert spec.target_modules == ("q_proj",) and lora.spec_dict(spec)["target_modules"] == ["q_proj"]
    lora.save(lora.attach(llama, spec), spec, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj"] and lora.read_spec(tmp_path) == spec
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "target_modules": "q_proj"}))
    assert lora.read_spec(tmp_path) == spec


def test_a_damaged_configuration(tmp_path):
    for text, words in ('{"peft_type": "LO', "is damaged"), ('{"peft_type": "LORA", "r": 4}', "does not say lora_alpha, target_modules"), (
            '{"peft_type": "IA3"}', "not a plain LoRA adapter"):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(ValueError, match=words):
            lora.read_spec(tmp_path)


def test_bad_input(llama, tmp_path):
    with pytest.raises(ValueError, match="dropout is a share"):
        LoraSpec(dropout=1.0)
    with pytest.raises(ValueError, match="rank must be at least 1"):
        LoraSpec(rank=0)
    with pytest.raises(ValueError, match="no linear layer"):
        lora.attach(llama, LoraSpec(target_modules=("nothing",)))
    with pytest.raises(ValueError, match="no adapter_config.json"):
        lora.read_spec(tmp_path)
    adapters = lora.attach(llama, SPEC)
    lora.save(adapters, SPEC, tmp_path)
    small = {n: a for n, a in adapters.items() if "layers.0" in n}
    with pytest.raises(ValueError, match="does not fit this model"):
        lora.load(small, tmp_path)
