"""NF4 by hand against bitsandbytes, and adapters over 4-bit layers: they train, equal PEFT, and are never merged."""
import pytest
import torch

import rftlab
from rftlab import lora, memory, nf4, qlora

pytest.importorskip("bitsandbytes")


@pytest.fixture(scope="module")
def theirs():
    return qlora.library().functional


def unpacked(packed):
    """bitsandbytes keeps two codes in a byte, the first in its upper half."""
    return torch.stack([packed.flatten() // 16, packed.flatten() % 16], 1).flatten()


def test_levels_are_those_of_bitsandbytes(theirs):
    assert torch.allclose(nf4.levels(), theirs.get_4bit_type("nf4", device="cpu"), atol=2e-7)
    assert torch.equal(nf4.scale_levels(), theirs.create_dynamic_map())
    assert nf4.levels()[7] == 0 and (nf4.levels()[0], nf4.levels()[-1]) == (-1, 1)


def test_by_hand():
    """The largest size is 2; divided by it -1, 0, 0.45, 1; the level nearest to 0.45 is 0.4407."""
    codes, scales = nf4.quantise(torch.tensor([-2.0, 0.0, 0.9, 2.0]))
    assert codes.tolist() == [0, 7, 12, 15] and scales.tolist() == [2.0]
    assert nf4.dequantise(codes, scales, (2, 2)).flatten().tolist() == pytest.approx([-2, 0, 2 * 0.440710, 2], abs=1e-5)
    codes, scales = nf4.quantise(torch.zeros(70))
    assert scales.tolist() == [0, 0] and torch.equal(nf4.dequantise(codes, scales, (70,)), torch.zeros(70))


@pytest.mark.parametrize("shape", [(64, 64), (300, 77), (5, 13), (256, 128)])
def test_equal_to_bitsandbytes(theirs, shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.02
    packed, state = theirs.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    codes, scales = nf4.quantise(weight)
    assert torch.equal(unpacked(packed)[: len(codes)], codes) and torch.equal(state.absmax, scales)
    assert torch.allclose(nf4.dequantise(codes, scales, shape), theirs.dequantize_4bit(packed, state), atol=1e-8)


def test_double_quantisation(theirs):
    weight = torch.randn(512, 512, generator=torch.Generator().manual_seed(0))
    packed, state = theirs.quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=True)
    codes, scales = nf4.quantise(weight)
    small, largest, offset = nf4.quantise_scales(scales)
    assert torch.allclose(state.offset, offset) and torch.allclose(state.state2.absmax, largest)
    off = (state.absmax.int() - small.int()).abs()  # their search for the nearest level is not exact
    assert (off == 0).float().mean() > 0.97 and off.max() <= 1
    back = nf4.dequantise(codes, nf4.dequantise_scales(state.absmax, largest, offset), weight.shape)
    assert torch.allclose(back, theirs.dequantize_4bit(packed, state), atol=1e-6)
    assert nf4.dequantise_scales(small, largest, offset) == pytest.approx(scales, abs=float(largest.max()) / 50)


def test_an_adapter_over_4_bits_equals_peft(theirs):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 32, bias=False)
    base = qlora.four_bit(layer)
    ours = lora.LoraLinear(base, lora.LoraSpec(4, 8), torch.Generator().manual_seed(0))
    ours.B.data.normal_()
    ours.merge()
    assert ours.merged is None
    model = torch.nn.Sequential(qlora.four_bit(layer))
    other = peft.inject_adapter_in_model(peft.LoraConfig(r=4, lora_alpha=8, target_modules=["0"]), model)[0]
    other.lora_A["default"].weight.data, other.lora_B["default"].weight.data = ours.A.data.clone(), ours.B.data.clone()
    x, y = (torch.randn(5, 64).requires_grad_() for _ in range(2))
    y.data = x.data.clone()
    ours(x).square().sum().backward()
    other(y).square().sum().backward()
    assert torch.allclose(ours(x), other(y), atol=1e-5) and torch.allclose(x.grad, y.grad, rtol=1e-4, atol=1e-4)
    assert torch.allclose(ours.A.grad, other.lora_A["default"].weight.grad, rtol=1e-4, atol=1e-4)


def test_tiny_trains_in_4_bits_and_its_adapter_travels(tmp_path):
    task = rftlab.load_task("arithmetic")
    policy = qlora.load_policy("tiny", rftlab.LoraSpec(4, 8), seed=0)
    whole = rftlab.load_policy("tiny")
    linear = 4 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 384 * 128)  # four blocks
    assert qlora.weight_bytes(policy.model) == pytest.approx(qlora.weight_bytes(whole.model.requires_grad_(False)) - linear * (4 - memory.NF4_BYTES), rel=0.01)
    question = [task.test(1)[0].prompt]
    before = policy.generate(question, 8)
    record = rftlab.grpo.train(policy, task, task.train(4, seed=0), steps=2, prompts_per_step=2, group_size=4, max_new_tokens=8, kl_coef=0.1,
                               reward_fn=lambda completions, **_: [float(i % 2) for i in range(len(completions))], lr=1e-2)
    assert record.metrics[0]["kl"] == pytest.approx(0, abs=1e-6) and record.metrics[1]["kl"] > 0
    assert all(p.dtype == torch.float32 for p in policy.parameters)
    with lora.base_weights(policy.adapters):
        assert policy.generate(question, 8) == before
    policy.save(tmp_path)
    assert rftlab.load_policy("tiny", lora=tmp_path).spec == lora.LoraSpec(4, 8, tuple(sorted(lora.ALL_LINEAR)))
    with pytest.raises(ValueError, match="4-bit weights cannot hold"):
        lora.fold(policy.model, policy.adapters)


def test_without_bitsandbytes(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ValueError, match="pip install bitsandbytes"):
        qlora.load_policy("tiny")
