"""The memory calculator: published parameter counts exactly, measured peaks within a tenth, and the known verdicts."""
import json

import pytest

from rftlab import LoraSpec, memory, memory_measured, records
from rftlab.memory import KNOWN, Work, estimate

PUBLISHED = {"1.5B": 1_543_714_304, "8B": 8_030_261_248, "32B": 32_763_876_352, "smollm2": 134_515_008}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_of_the_published_checkpoint(name):
    assert KNOWN[name].parameters == PUBLISHED[name]


def test_tiny_is_read_off_the_model():
    import rftlab

    policy = rftlab.load_policy("tiny", lora=LoraSpec(4, 8))
    found = memory.Architecture.of(policy.model, "tiny")
    assert found == KNOWN["tiny"]
    assert found.adapter_parameters(policy.spec) == sum(p.numel() for p in policy.parameters)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_parameters_are_those_of_transformers(kind):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
                                  num_key_value_heads=2, vocab_size=50, tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config)
    assert memory.Architecture.of(model).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("group, tokens, per_pass", [(4, 20, 2), (8, 40, 2)])  # scores written out, and fused
def test_measured_peaks_on_tiny(group, tokens, per_pass):
    for row in memory_measured.compare("tiny", works=[(2, group, tokens, per_pass)]):
        assert row["static"] == pytest.approx(row["estimated_static"], rel=0.002), row["method"]
        assert row["peak"] == pytest.approx(row["estimated"], rel=0.1), row["method"]


def test_the_record_of_smollm2():
    path = records.results_folder() / "memory" / "smollm2.json"
    rows = json.loads(path.read_text())["rows"]
    assert {row["method"] for row in rows} == set(memory_measured.WAYS)
    for row in rows:
        spec = None if row["method"] == "full" else LoraSpec()
        again = estimate(KNOWN["smollm2"], row["method"], Work(**row["work"]), spec, 2, 4)
        assert again.peak == pytest.approx(row["estimated"])
        assert row["peak"] == pytest.approx(again.peak, rel=0.15), row


def test_by_hand():
    """1000 weights of 4 bits in blocks of 64: 500 bytes, and 1000/64 bytes of scales, and 1000/64/256 * 4 of theirs."""
    assert 1000 * memory.NF4_BYTES == pytest.approx(500 + 15.625 + 0.244, abs=0.001)
    one = memory.Architecture("", hidden=2, intermediate=3, layers=1, heads=1, kv_heads=1, head_dim=2, vocabulary=5, tied=True)
    assert one.parameters == 4 * 4 + 3 * 6 + 3 * 2 + 10  # attention, feed-forward, norms, embedding
    assert one.adapter_parameters(LoraSpec(1, 1)) == 4 * 4 + 3 * 5
    cache = estimate(one, "lora", Work(prompts=3, group=2, prompt_tokens=4, completion_tokens=6)).cache
    assert cache == 2 * 3 * 2 * (4 + 6) * 2 * 2  # keys and values, 6 rows of 10 tokens, 2 numbers of 2 bytes
    mixed = estimate(one, "full-mixed")
    assert mixed.weights + mixed.gradients + mixed.optimizer == 16 * one.parameters


def test_verdicts():
    work = Work(prompts=8, group=8, prompt_tokens=256, completion_tokens=512, per_pass=1, checkpointing=True)

    def verdict(name, method, gpu):
        return memory.fits(estimate(KNOWN[name], method, work), gpu)

    assert verdict("1.5B", "lora", "T4 16 GB") and verdict("1.5B", "qlora", "T4 16 GB")
    assert not verdict("1.5B", "full-mixed", "T4 16 GB")  # 16 bytes a parameter are 24.7 GB
    assert not verdict("8B", "lora", "T4 16 GB") and verdict("8B", "lora", "A100 40 GB")
    assert not verdict("8B", "full-mixed", "H100 80 GB") and not verdict("32B", "lora", "A100 40 GB")
    assert verdict("32B", "qlora", "A100 80 GB") and not verdict("32B", "full", "H100 80 GB")


def test_each_change_goes_the_right_way():
    base = estimate(KNOWN["8B"], "lora")
    assert estimate(KNOWN["8B"], "qlora").weights < base.weights / 2.5
    assert estimate(KNOWN["8B"], "lora", Work(checkpointing=True)).activations < base.activations / 5
    assert estimate(KNOWN["8B"], "lora", Work(per_pass=2)).activations == pytest.approx(2 * base.activations)
    assert estimate(KNOWN["8B"], "lora", spec=LoraSpec(32, 32)).optimizer == 2 * base.optimizer
    with pytest.raises(ValueError, match="expected one of full"):
        estimate(KNOWN["8B"], "dora")
