"""A model as one ONNX file with a cache of keys and values, for ONNX Runtime: written, and read back to be compared.

    onnx("out/merged", "out/model.onnx")
    model = read_onnx("out/model.onnx")
    model(input_ids).logits
    model.generate(*policy.encode(prompts), max_new_tokens=32, end_ids=policy.end_ids)

The graph is called for the prompt with an empty cache, then once a token. Inputs: input_ids (B, T), attention_mask (B, P + T) for a
cache of P tokens, past_key_values.0.key and so on (B, heads, P, size). Outputs: logits (B, T, V), present.0.key and so on. These are
the names that Optimum uses, but for position_ids: they are counted here from the mask, so that prompts may be padded on the left.
"""
import contextlib
import importlib
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from rftlab import models

ARCHITECTURES = ("llama", "qwen2", "qwen3")


class WithCache(torch.nn.Module):
    """A transformers model as a function of tensors only: keys and values go in and come out as a flat list."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, past):
        from transformers import DynamicCache

        cache = DynamicCache()
        for i in range(0, len(past), 2):
            cache.update(past[i], past[i + 1], i // 2)
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -input_ids.shape[1]:]
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, past_key_values=cache, use_cache=True)
        return out.logits, [each for layer in cache.layers for each in (layer.keys, layer.values)]


def onnx(source, path) -> Path:
    """Write a merged folder (Llama, Qwen2 or Qwen3) as ONNX in float32; above 1.5 GB the weights lie in a second file beside it.

    The tokenizer is not part of it: take the folder's. Raises ValueError for other models, and where onnx or onnxscript is missing.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    _package("onnx"), _package("onnxscript")
    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(models.whole(source), dtype=torch.float32, attn_implementation="sdpa").eval()
    if model.config.model_type not in ARCHITECTURES or "sliding_attention" in (getattr(model.config, "layer_types", None) or []):
        raise ValueError(f"{source} is a {model.config.model_type} model; this writes {', '.join(ARCHITECTURES)} with full attention in "
                         "every layer, `optimum-cli export onnx` others")
    examples = torch.ones(2, 5, dtype=torch.int64)
    with torch.no_grad():
        layers = model(input_ids=examples, use_cache=True).past_key_values.layers
    past = [each for layer in layers for each in (layer.keys, layer.values)]
    names = [f"{i}.{kind}" for i in range(len(layers)) for kind in ("key", "value")]
    given = (examples[:, :3], torch.ones(2, 3 + 5, dtype=torch.int64), past)  # no size is 0 or 1: the exporter would take it for a constant
    with _quiet():
        program = torch.onnx.export(
            WithCache(model).eval(), given, dynamo=True, verbose=False,
            input_names=["input_ids", "attention_mask", *(f"past_key_values.{name}" for name in names)],
            output_names=["logits", *(f"present.{name}" for name in names)],
            dynamic_shapes=({0: "batch", 1: "tokens"}, {0: "batch", 1: "past_and_tokens"}, [{0: "batch", 2: "past"}] * len(past)))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            program.save(str(path))
        except BaseException:
            Path(path).unlink(missing_ok=True)  # half a file, on a full disk for example
            raise
    return Path(path)


@dataclass
class Output:
    """logits (B, T, V) and the cache, a list of arrays."""

    logits: torch.Tensor
    past: list


class OnnxModel:
    """An ONNX file in ONNX Runtime, on the CPU; called like a model of transformers."""

    def __init__(self, session):
        self.session = session
        self.names = [one.name for one in session.get_inputs()]
        self.shapes = [one.shape for one in session.get_inputs()][2:]

    def __call__(self, input_ids, attention_mask=None, past=None) -> Output:
        """attention_mask covers the cache as well; all ones by default."""
        import numpy

        if past is None:
            past = [numpy.zeros((len(input_ids), heads, 0, size), numpy.float32) for _, heads, _, size in self.shapes]
        if attention_mask is None:
            attention_mask = torch.ones(len(input_ids), past[0].shape[2] + input_ids.shape[1])
        given = [input_ids.long().numpy(), attention_mask.long().numpy(), *past]
        logits, *past = self.session.run(None, dict(zip(self.names, given, strict=True)))
        return Output(torch.from_numpy(logits), past)

    def generate(self, input_ids, attention_mask, max_new_tokens, end_ids) -> list[list[int]]:
        """Greedy completions of prompts that are padded on the left: each row's tokens up to its end, without it."""
        rows, mask, out = [[] for _ in input_ids], attention_mask.long(), self(input_ids, attention_mask)
        running = set(range(len(rows)))
        for step in range(max_new_tokens):
            token = out.logits[:, -1].argmax(-1)
            running -= {i for i in running if token[i].item() in end_ids}
            for i in running:
                rows[i].append(token[i].item())
            if not running or step == max_new_tokens - 1:
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            out = self(token[:, None], mask, out.past)
        return rows


def read_onnx(path) -> OnnxModel:
    """Load a file that `onnx` wrote. Raises ValueError where onnxruntime is missing or the file is not such a one."""
    runtime = _package("onnxruntime")
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # each fault is a class of its own in onnxruntime, with no base but this
        raise ValueError(f"{path} cannot be loaded: {error}") from error
    names = [one.name for one in session.get_inputs()]
    if names[:3] != ["input_ids", "attention_mask", "past_key_values.0.key"]:
        raise ValueError(f"{path} takes {', '.join(names[:3])}; expected a file that rftlab.deploy.onnx wrote")
    return OnnxModel(session)


def _package(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"ONNX needs {name}, which is not installed: `pip install onnx onnxscript onnxruntime`") from error


@contextlib.contextmanager
def _quiet():
    """Without the exporter's remarks on its own deprecations and on torchvision. What it raises passes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
