"""Save and load a speculator: one safetensors file beside the adapter, with what it was made for in its header.

A speculator made for another model could not make an answer wrong, since every token is verified; it could crash, or be of no
use while nobody notices. So the file names its model, tokenizer and weights, and loading compares them.
"""
import hashlib
import json
import math
from pathlib import Path

import torch

from rftlab.speculative.draft_model import DraftModel
from rftlab.speculative.heads import Heads

HEADER, VERSION = "rftlab_speculator", 1
KINDS = ("turbo", "draft")


def file_of(folder, kind) -> Path:
    """Where the speculator of this kind stands in a folder."""
    return Path(folder) / f"speculator-{kind}.safetensors"


def identity(policy) -> dict:
    """What a speculator depends on: architecture, tokenizer, and a sample of all weights.

    The sample is compared within 1 %, so that the same model in another number format is the same model.
    """
    config, names, values = policy.model.config, [], []
    for name, parameter in sorted((n.replace(".base.weight", ".weight"), p) for n, p in policy.model.named_parameters()):
        flat = parameter.detach().flatten()
        names.append(f"{name} {len(flat)}")
        values += [float(f"{flat[len(flat) * i // 3].item():.4g}") for i in range(3)]
    return {"architecture": type(policy.model).__name__, "hidden_size": config.hidden_size, "layers": config.num_hidden_layers,
            "vocab_size": config.vocab_size, "tokenizer": _hash(sorted(policy.tokenizer.get_vocab().items())),
            "parameters": _hash(names), "weights": values}


def _hash(value) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def save(speculator, policy, folder) -> Path:
    """Write the speculator (Heads or DraftModel) into `folder`, as one file, for this policy as it is now."""
    from safetensors.torch import save_file

    tensors, settings = _parts(speculator)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    header = {"version": VERSION, "kind": speculator.kind, "settings": settings, "identity": identity(policy), "sha256": _digest(tensors)}
    path = file_of(folder, speculator.kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"format": "pt", HEADER: json.dumps(header)})
    return path


def load(policy, path, other_weights=False):
    """The speculator in a file, or the first one in a folder, for this policy.

    other_weights=True takes one that was made for the same architecture and tokenizer with other weights, say before more
    training: answers stay exact, fewer drafts are kept. Raises ValueError for another model or tokenizer, and for a
    missing, damaged or foreign file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        path = next((file_of(path, kind) for kind in KINDS if file_of(path, kind).is_file()), file_of(path, KINDS[0]))
    if not path.is_file():
        raise ValueError(f"there is no speculator at {path}; expected a file that rftlab.speculative.save wrote")
    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads((opened.metadata() or {}).get(HEADER, "null"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again, or train the speculator again") from error
    if not isinstance(header, dict) or header.get("version") != VERSION or header.get("kind") not in KINDS:
        raise ValueError(f"{path} is no speculator of this version; expected a file that rftlab.speculative.save wrote")
    if header["sha256"] != _digest(tensors):
        raise ValueError(f"{path} is damaged (its tensors do not match their checksum); copy it again, or train the speculator again")
    _compare(path, header["identity"], identity(policy), other_weights)
    return _build(policy, header, tensors)


def _compare(path, theirs, ours, other_weights) -> None:
    odd = [key for key in ours if key not in ("parameters", "weights") and theirs.get(key) != ours[key]]
    if odd:
        told = "; ".join(f"{key} is {theirs.get(key)!r} there and {ours[key]!r} here" for key in odd)
        raise ValueError(f"{path} was made for another {'tokenizer' if odd == ['tokenizer'] else 'model'}: {told}. Train a speculator for "
                         "this one: rftlab.speculative.train_heads")
    same = theirs["parameters"] == ours["parameters"] and all(
        math.isclose(a, b, rel_tol=0.01, abs_tol=1e-4) for a, b in zip(theirs["weights"], ours["weights"], strict=True))
    if not same and not other_weights:
        raise ValueError(f"{path} was made for other weights of this model. Load the policy or the adapter that it was saved with; or pass "
                         "other_weights=True: answers stay exact, fewer drafts will be kept")


def _parts(speculator):
    if isinstance(speculator, Heads):
        return dict(speculator.state_dict()), {"k": speculator.k}
    if isinstance(speculator, DraftModel):
        return speculator.parameters(), {"k": speculator.k, "layers": speculator.layers}
    raise ValueError(f"a speculator of type {type(speculator).__name__} has nothing to save; expected Heads or DraftModel")


def _build(policy, header, tensors):
    device = policy.model.device
    if header["kind"] == "draft":
        draft = DraftModel.of(policy, header["settings"]["layers"], header["settings"]["k"])
        with torch.no_grad():
            for name, parameter in draft.parameters().items():
                parameter.copy_(tensors[name])
        return draft
    heads = Heads(tensors["W"].shape[1], len(tensors["W"]), "U" in tensors, tensors.get("vocabulary")).to(device)
    heads.load_state_dict(tensors)
    heads.k = header["settings"]["k"]
    return heads.requires_grad_(False)


def _digest(tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
