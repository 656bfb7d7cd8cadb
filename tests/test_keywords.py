"""Every keyword that the course passes to TRL, PEFT, transformers, datasets and Unsloth is one that they take."""
import dataclasses
import inspect
import textwrap

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from rftlab.keywords import calls, course_files, main, taken_by, wrong
from rftlab.notebooks import ROOT
from rftlab.signatures import keywords
from rftlab.sources import Sources

INSTALLED = Sources()
needs_unsloth = pytest.mark.skipif(not INSTALLED.has("unsloth"), reason="Unsloth is not installed")


def found_in(tmp_path, source, name="script.py"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(source))
    return calls(path)


def test_the_course_passes_only_keywords_that_exist():
    found = [call for path in course_files() for call in calls(path)]
    absent = {call.target.split(".")[0] for call in found if not INSTALLED.has(call.target.split(".")[0])}
    assert not absent, f"calls of {absent} cannot be looked at"
    assert not wrong(found, INSTALLED), "\n".join(wrong(found, INSTALLED))
    assert {"trl.GRPOConfig", "trl.GRPOTrainer", "peft.LoraConfig"} <= {call.target for call in found}
    hidden = [call.where for call in found if call.hidden]
    assert len(hidden) <= 0.25 * len(found), f"too many calls hide their keywords in a dictionary from elsewhere: {hidden}"


FAULTS = {
    "renamed field": ("from trl import GRPOConfig\nGRPOConfig(output_dir='x', max_prompt_length=8)", "max_prompt_length"),
    "dotted": ("import trl\ntrl.GRPOConfig(num_generation=8)", "num_generations"),
    "alias": ("import trl as t\nt.SFTConfig(max_seq_length=8)", "max_seq_length"),
    "moved": ("from trl import SFTTrainer\nSFTTrainer(model=m, tokenizer=t, dataset_text_field='text')", "'tokenizer'"),
    "in a function": ("def f():\n    from transformers import TrainingArguments\n    return TrainingArguments(evaluation_strategy='no')",
                      "eval_strategy"),
    "positional too": ("from peft import LoraConfig\nLoraConfig(16, alpha=16)", "lora_alpha"),
    "dictionary": ("from trl import GRPOConfig\nsizes = {'beta': 0.1, 'betta': 1}\nGRPOConfig(**sizes)", "betta"),
    "dictionaries": ("from trl import GRPOConfig\na = dict(beta=0.1)\nb = a | {'epsilom': 1}\nGRPOConfig(**b, **{'temperatur': 1})",
                     "epsilom"),
    "through a loader": ("from transformers import AutoModelForCausalLM\nAutoModelForCausalLM.from_pretrained('x', d_type=1)", "dtype"),
    "tokenizer": ("from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained('x', pad_tokens='y')", "pad_token"),
    "method": ("from datasets import Dataset\nd = Dataset.from_list(r)\nd.map(f, remove_column=['a'])", "remove_columns"),
    "chained": ("from datasets import Dataset\nDataset.from_list(r).train_test_split(test_share=0.1)", "test_s"),
    "generation": ("from transformers import AutoModelForCausalLM\nm = AutoModelForCausalLM.from_pretrained('x')\n"
                   "m.generate(input_ids=i, attention_mask=a, max_token=4)", "max_token"),
    "gone": ("from trl import PPOTrainerOfOld\nPPOTrainerOfOld(model=m)", "does not exist"),
    "skipped import": ("import pytest\ntrl = pytest.importorskip('trl')\ntrl.GRPOConfig(betas=1)", "betas"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_wrong_keyword_is_found(name, tmp_path):
    source, hint = FAULTS[name]
    sentences = wrong(found_in(tmp_path, source), INSTALLED)
    assert sentences and any(hint in one for one in sentences), sentences


@needs_unsloth
@pytest.mark.parametrize("source, hint", [
    ("model = FastLanguageModel.get_peft_model(model, r=16, alpha=16)", "lora_alpha"),
    ("model = FastLanguageModel.get_peft_model(model, r=16, dropout=0.05)", "lora_dropout"),
    ("m, t = FastLanguageModel.from_pretrained('x', gpu_memory_utilisation=0.5)", "gpu_memory_utilization"),
    ("FastLanguageModel.format_dataset(data, add_special_tokens=True)", "has no format_dataset"),
    ("m, t = FastLanguageModel.from_pretrained('x')\nm.save_pretrained_merged('y', t, save_methods='lora')", "save_method"),
])
def test_the_decks_keywords_for_unsloth_are_found(tmp_path, source, hint):
    sentences = wrong(found_in(tmp_path, "from unsloth import FastLanguageModel\n" + source), INSTALLED)
    assert sentences and any(hint in one for one in sentences), sentences


def test_a_fault_in_a_notebook_is_found_and_its_cell_named(tmp_path):
    cells = [new_code_cell("%matplotlib inline\nfrom trl import GRPOConfig"), new_code_cell("!ls\nGRPOConfig(betta=0.1)")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "mine.ipynb")
    assert main([str(tmp_path / "mine.ipynb")]) == 1
    sentence, = wrong(calls(tmp_path / "mine.ipynb"), INSTALLED)
    assert "mine.ipynb, code cell 2" in sentence and "betta" in sentence


def test_right_calls_pass(tmp_path, capsys):
    (tmp_path / "script.py").write_text(textwrap.dedent("""
        import json
        from datasets import Dataset, load_dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
        from trl import GRPOConfig, GRPOTrainer
        data = load_dataset("json", data_files="x.jsonl", split="train")
        data = Dataset.from_list([]).map(len, remove_columns=["a"])
        tokenizer = AutoTokenizer.from_pretrained("x", padding_side="left", pad_token="y")
        tokenizer.apply_chat_template([], tokenize=False, add_generation_prompt=True)
        model = AutoModelForCausalLM.from_pretrained("x", dtype="auto", device_map="auto", gguf_file="f", attn_implementation="sdpa")
        model.generate(**tokens, max_new_tokens=4, do_sample=False)
        model(input_ids=1, labels=2)
        model.to(device="cpu")
        trainer = GRPOTrainer(model, reward_funcs=[len], args=GRPOConfig("out", beta=0.0, loss_type="dapo"), train_dataset=data)
        trainer.train(resume_from_checkpoint=True)
        json.dumps({}, indent=1, nothing_of_ours=2)
    """))
    assert main([str(tmp_path / "script.py")]) == 0
    assert "0 of them wrong" in capsys.readouterr().out
    assert len(calls(tmp_path / "script.py")) == 10


@pytest.mark.parametrize("name", ["trl.GRPOConfig", "trl.SFTConfig", "peft.LoraConfig", "transformers.TrainingArguments"])
def test_what_is_read_is_what_the_imported_class_has(name):
    """An independent look at the same thing: dataclasses.fields of the class that Python imported."""
    package, _, attribute = name.partition(".")
    cls = getattr(pytest.importorskip(package), attribute)
    assert keywords(INSTALLED, name).names == {field.name for field in dataclasses.fields(cls) if field.init}


@pytest.mark.parametrize("name", ["trl.GRPOTrainer", "trl.SFTTrainer", "datasets.load_dataset", "peft.get_peft_model"])
def test_what_is_read_is_the_signature_of_the_imported_function(name):
    package, _, attribute = name.partition(".")
    parameters = inspect.signature(getattr(pytest.importorskip(package), attribute)).parameters.values()
    expected = {one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)}
    got = keywords(INSTALLED, name)
    assert expected <= got.names and (got.open or got.names == expected)


def test_any_folder_of_packages_can_be_read(tmp_path):
    """Re-exports, stars, lazy names, inherited fields, methods of bases, and keywords that are passed on, in a made-up package."""
    files = {
        "__init__.py": "from .api import *\ntry:\n    from .core import Model as Net\nexcept ImportError:\n    pass\nimport nothing_such",
        "api.py": "from .core import make\nfrom .core import Config",
        "core.py": """
            from dataclasses import dataclass
            from typing import ClassVar
            @dataclass
            class Base:
                a: int = 0
            @dataclass
            class Config(Base):
                b: int = 1
                kind: ClassVar[str] = "x"
            class Parent:
                def __init__(self, c, *, d=0): ...
                def run(self, e, **kwargs):
                    f = kwargs.pop("f", None)
            class Model(Parent):
                def __init__(self, g, **kwargs):
                    super().__init__(**kwargs)
            def make(h, **options):
                return Model(**options)
            def wild(**anything):
                return print(anything)
        """,
        "deep/__init__.py": "", "deep/lazy.py": "class Hidden:\n    def __init__(self, z): ...",
    }
    for name, text in files.items():
        path = tmp_path / "made_up" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    sources = Sources([tmp_path])
    assert keywords(sources, "made_up.Config").names == {"a", "b"}
    assert keywords(sources, "made_up.Net").names == {"c", "d", "g"} and not keywords(sources, "made_up.Net").open
    assert keywords(sources, "made_up.make").names == {"c", "d", "g", "h"}
    assert keywords(sources, "made_up.Net.run").names == {"e", "f"}
    assert keywords(sources, "made_up.core.wild").open
    assert keywords(sources, "made_up.Hidden").names == {"z"}
    for name in ("made_up.Gone", "made_up.Net.gone", "not_there.Config"):
        with pytest.raises(LookupError):
            keywords(sources, name)


def test_other_versions_go_in_front_of_the_installed_ones(tmp_path, capsys):
    (tmp_path / "packages" / "trl").mkdir(parents=True)
    (tmp_path / "packages" / "trl" / "__init__.py").write_text("class GRPOConfig:\n    def __init__(self, beta_new): ...\n")
    (tmp_path / "script.py").write_text("from trl import GRPOConfig\nGRPOConfig(beta=0.1)\n")
    assert main([str(tmp_path / "script.py")]) == 0
    assert main(["--packages", str(tmp_path / "packages"), str(tmp_path / "script.py")]) == 1
    assert "it has beta_new" in capsys.readouterr().out


@needs_unsloth
def test_unsloth_takes_the_same_names_with_and_without_a_gpu():
    with_gpu = taken_by("unsloth.FastLanguageModel.from_pretrained", INSTALLED).names
    without = keywords(INSTALLED, "unsloth_zoo.cpu.loader.FastCPUModel.from_pretrained").names
    assert {"model_name", "max_seq_length", "load_in_4bit", "dtype", "fast_inference"} <= with_gpu & without


def test_every_file_of_the_course_is_looked_at():
    looked_at = set(course_files())
    assert {ROOT / "rftlab" / "bench.py", *(ROOT / "notebooks").rglob("*.ipynb")} <= looked_at | set((ROOT / "notebooks").rglob(".ipynb_checkpoints/*"))
