"""From a trained policy to files that others can load: adapters, merged weights, GGUF, ONNX.

    adapters(policy, "out/adapters")     a few MB, for PEFT, vLLM and `transformers serve` beside the base model
    merged(policy, "out/merged")         a folder like any other model: for all servers
    gguf("out/merged", "out/model.gguf", "Q8_0")     one file: for llama.cpp, Ollama, LM Studio
    onnx("out/merged", "out/model.onnx")             a graph with its cache: for ONNX Runtime, also in a browser or a phone
"""
import json
import os
import tempfile
from pathlib import Path

from rftlab import models
from rftlab.deploy_onnx import onnx, read_onnx  # noqa: F401

GGUF_TYPES = ("F32", "F16", "Q8_0")  # bits a weight: 32, 16, 8.5
ARCHITECTURES = {"llama": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
# How Llama 3 and Qwen divide text before the merges; they differ in how many digits stand together. llama.cpp knows them by name.
_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE_TOKENIZERS = {_SPLIT % r"\p{N}{1,3}": "llama-bpe", _SPLIT % r"\p{N}": "qwen2"}


def adapters(policy, folder) -> Path:
    """Write the adapters and the tokenizer. Raises ValueError for a policy without adapters."""
    if not (policy.adapters or hasattr(policy.model, "peft_config")):
        raise ValueError("this policy has no adapters: all its weights were trained; write them with merged(policy, folder)")
    models.refuse_whole(folder)
    policy.save(folder)
    return Path(folder)


def merged(policy, folder) -> Path:
    """Write whole weights, adapters merged into the base model as it was loaded from disk, so that 4-bit training loses nothing here.

    They take their place when all are written: a full disk leaves what was there before. An adapter that was there is removed then.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    _no_bars()
    folder = Path(folder)
    model = policy.model
    if policy.adapters or hasattr(model, "peft_config"):
        source = policy.base or policy.folder
        if source is None:
            raise ValueError("this policy does not know where its base model is; load it with load_policy or hub_training.load")
        with tempfile.TemporaryDirectory() as small:
            policy.save(small)
            base = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
            model = PeftModel.from_pretrained(base, small).merge_and_unload(safe_merge=True)
    if folder.is_file():
        raise ValueError(f"{folder} is a file; expected the name of a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as scratch:
        model.save_pretrained(scratch)
        policy.tokenizer.save_pretrained(scratch)
        for name in os.listdir(scratch):
            os.replace(Path(scratch) / name, folder / name)
    models.drop_adapter(folder)
    return folder


def gguf(source, path, kind="F16") -> Path:
    """Write a merged folder (Llama, Qwen2 or Qwen3) as one GGUF file; weights of one dimension stay in float32.

    The vocabulary and the chat template travel along; GGUF names pre-tokenizers instead of describing them, so that one without
    a name (that of `tiny`) is written as "default": there, keep the folder's own tokenizer. Llama 3's stretched positions are a tensor,
    which llama.cpp reads and transformers does not. Raises ValueError for other models, and other ways to stretch positions.
    """
    import gguf as library
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if kind not in GGUF_TYPES:
        raise ValueError(f"kind={kind!r}; expected one of {', '.join(GGUF_TYPES)}")
    _no_bars()
    source = models.whole(source)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(source, dtype="float32"), AutoTokenizer.from_pretrained(source)
    config = model.config
    if config.model_type not in ARCHITECTURES:
        raise ValueError(f"{source} is a {config.model_type} model; this writes {', '.join(ARCHITECTURES)}, llama.cpp's "
                         "convert_hf_to_gguf.py all others")
    stretched = _stretched(model)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    writer = library.GGUFWriter(str(scratch), config.model_type)
    _describe(writer, config, tokenizer)
    if stretched is not None:
        writer.add_tensor("rope_freqs.weight", stretched)
    names = library.get_tensor_name_map(library.MODEL_ARCH[ARCHITECTURES[config.model_type]], config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.numpy()
        if config.model_type == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            values = _interleave(values, heads)
        chosen = "F32" if values.ndim == 1 or kind == "Q8_0" and values.shape[-1] % 32 else kind
        quantised = library.quants.quantize(values, library.GGMLQuantizationType[chosen])
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), quantised, raw_dtype=library.GGMLQuantizationType[chosen])
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def read_gguf(path):
    """A GGUF file as a transformers model in float32, dequantised: to compare with what it was written from."""
    import functools

    import torch
    import transformers.modeling_gguf_pytorch_utils as reader
    from transformers import AutoModelForCausalLM, GgufConfig

    _no_bars()
    path, bars = Path(path), reader.tqdm
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; expected one that rftlab.deploy.gguf wrote")
    reader.tqdm = functools.partial(bars, disable=True)  # it knows no other switch
    try:
        return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32,
                                                    quantization_config=GgufConfig(dequantize=True))
    finally:
        reader.tqdm = bars


def _no_bars() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()


def _stretched(model):
    """Llama 3.1's factors of the rotary wavelengths (head / 2,) in float32, as llama.cpp's own converter writes them; None where there are none."""
    import torch

    rope = getattr(model.config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f"positions are stretched by {kind!r}; this writes none and Llama 3's, llama.cpp's convert_hf_to_gguf.py all others")
    ours = model.model.rotary_emb.inv_freq.float()
    plain = rope["rope_theta"] ** -(torch.arange(len(ours), dtype=torch.float32) / len(ours))
    return (plain / ours).numpy()


def _describe(writer, config, tokenizer) -> None:
    """Everything in the file that is not a weight."""
    rope = getattr(config, "rope_parameters", None) or {}
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    writer.add_vocab_size(config.vocab_size)
    tokens = {i: token for token, i in tokenizer.get_vocab().items()}
    special, added = set(tokenizer.all_special_ids), set(tokenizer.get_added_vocab().values())
    kinds = {i: 3 if i in special else 4 if i in added else 1 for i in tokens}  # 3: never text; 4: whole in any text, as <think>; 5: unused
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(tokenizer))
    writer.add_token_list([tokens.get(i, f"[unused{i}]") for i in range(config.vocab_size)])
    writer.add_token_types([kinds.get(i, 5) for i in range(config.vocab_size)])
    writer.add_token_merges(_merges(tokenizer))
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)  # for the chat template, which puts it where it belongs
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _pre_tokenizer(tokenizer) -> str:
    """llama.cpp's name for how a tokenizer divides text before its merges; "default" where it has none."""
    def steps(one):
        return [step for each in one["pretokenizers"] for step in steps(each)] if one["type"] == "Sequence" else [one]

    found = steps(json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"])
    splits = [step["pattern"].get("Regex") for step in found if step["type"] == "Split"]
    if splits:
        return PRE_TOKENIZERS.get(splits[0], "default") if len(splits) == 1 else "default"
    alone = found[-1].get("use_regex")
    return {("ByteLevel",): "gpt-2", ("Digits", "ByteLevel"): "smollm"}.get(tuple(step["type"] for step in found), "default") if alone else "default"


def _merges(tokenizer) -> list[str]:
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] != "BPE":
        raise ValueError(f"the tokenizer is of the kind {model['type']}; this writes byte-level BPE only")
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]


def _interleave(values, heads):
    """The rows of a rotary projection as llama.cpp pairs them: (0, 1), (2, 3) instead of (0, n/2), (1, n/2 + 1)."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).copy()
