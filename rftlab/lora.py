"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): W' = W + (alpha / rank) B A.

Differences from PEFT: the sum is kept merged while training. A forward pass is then one plain matmul, rollouts
cost what the base model costs, and the gradients of A and B come out of the same pass:
    dA = s (dY B)^T X        dB = s dY^T (X A^T)        with s = alpha / rank.
The frozen W stays beside the merged one, so unmerging is exact, not a subtraction. Files are PEFT's. With dropout the sum cannot
be kept merged in training, W x + s B A drop(x): such a pass costs what PEFT's does; rollouts stay merged.
"""
import json
import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoraSpec:
    """rank, alpha (the update is scaled by alpha / rank), the names of the linear layers that get adapters, and the share of their
    inputs that is dropped in training passes."""

    rank: int = 16
    alpha: float = 32
    target_modules: tuple = ALL_LINEAR
    dropout: float = 0.0

    def __post_init__(self):
        if isinstance(self.target_modules, str):  # `in` would find parts of the name, and a file would hold its letters
            object.__setattr__(self, "target_modules", (self.target_modules,))
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, got {self.dropout}")


class _Merged(torch.autograd.Function):
    """y = x W'^T with gradients for x, A and B only: the dense gradient of W' is never formed."""

    @staticmethod
    def forward(ctx, x, merged, A, B, scale):
        ctx.save_for_backward(x, merged, A, B)
        ctx.scale = scale
        return F.linear(x, merged)

    @staticmethod
    def backward(ctx, grad):
        x, merged, A, B = ctx.saved_tensors
        flat, g = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
        low_A, low_B = A.to(g.dtype), B.to(g.dtype)
        grad_A = ctx.scale * (g @ low_B).T @ flat
        grad_B = ctx.scale * g.T @ (flat @ low_A.T)
        grad_x = grad @ merged if ctx.needs_input_grad[0] else None
        return grad_x, None, grad_A.to(A.dtype), grad_B.to(B.dtype), None


class LoraLinear(nn.Module):
    """A frozen linear layer with an adapter: A is (rank, in), B is (out, rank), both float32.

    noise: the generator that dropout draws from. Dropout acts where gradients are recorded, and nowhere else.
    """

    def __init__(self, base: nn.Linear, spec: LoraSpec, generator: torch.Generator, noise: torch.Generator | None = None):
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), spec.alpha / spec.rank
        A = torch.empty(spec.rank, base.in_features)
        bound = 1 / math.sqrt(base.in_features)  # PEFT's kaiming_uniform(a=sqrt(5))
        A.uniform_(-bound, bound, generator=generator)
        device = base.weight.device
        self.A = nn.Parameter(A.to(device))
        self.B = nn.Parameter(torch.zeros(base.out_features, spec.rank, device=device))
        self.merged, self.dropout, self.noise, self.acts = None, spec.dropout, noise, True

    @property
    def weight(self):
        return self.base.weight if self.merged is None or not self.acts else self.merged

    @torch.no_grad()
    def merge(self):
        """Write W + s B A into the merged copy, rounded once. Over 4-bit weights (rftlab/qlora.py) nothing can be merged."""
        W = self.base.weight
        if not W.is_floating_point():
            return
        if self.merged is None:
            self.merged = torch.empty_like(W)
        torch.addmm(W, (self.scale * self.B).to(W.dtype), self.A.to(W.dtype), out=self.merged)

    def unmerge(self):
        self.merged = None

    def drop(self, x):
        """x with a share of its elements set to 0 and the others enlarged, so that the mean stays."""
        kept = torch.rand(x.shape, generator=self.noise, device=x.device) >= self.dropout
        return x * kept / (1 - self.dropout)

    def forward(self, x):
        if not self.acts:
            return self.base(x)
        dropped = self.dropout > 0 and torch.is_grad_enabled()
        if self.merged is None or dropped:
            inputs = self.drop(x) if dropped else x
            update = F.linear(F.linear(inputs.to(self.A.dtype), self.A), self.B)
            return self.base(x) + (self.scale * update).to(x.dtype)
        if not torch.is_grad_enabled():
            return F.linear(x, self.merged, self.base.bias)
        y = _Merged.apply(x, self.merged, self.A, self.B, self.scale)
        return y if self.base.bias is None else y + self.base.bias


def attach(model: nn.Module, spec: LoraSpec, seed: int = 0) -> dict[str, LoraLinear]:
    """Freeze `model`, put an adapter on each target layer, merged; returns {module path: adapter}.

    Raises ValueError when no layer has one of the target names.
    """
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    found = [(name, m) for name, m in model.named_modules()
             if isinstance(m, nn.Linear) and name.rsplit(".", 1)[-1] in spec.target_modules]
    if not found:
        raise ValueError(f"no linear layer of this model is named one of {', '.join(spec.target_modules)}; "
                         "give LoraSpec(target_modules=...) the names that it has")
    noise = torch.Generator(found[0][1].weight.device).manual_seed(seed) if spec.dropout else None
    adapters = {}
    for name, linear in found:
        parent, child = name.rpartition(".")[::2]
        adapters[name] = LoraLinear(linear, spec, generator, noise)
        setattr(model.get_submodule(parent), child, adapters[name])
    merge(adapters)
    return adapters


def merge(adapters: dict[str, LoraLinear]) -> None:
    """Bring every merged weight up to date; call it after each optimizer step."""
    for adapter in adapters.values():
        adapter.merge()


def seed_dropout(adapters: dict[str, LoraLinear], seed: int) -> None:
    """What dropout draws from here on depends on `seed` alone: a resumed run draws what the run that never stopped drew."""
    for noise in {id(a.noise): a.noise for a in adapters.values() if a.noise is not None}.values():
        noise.manual_seed(seed)


def unmerge(adapters: dict[str, LoraLinear]) -> None:
    """Give the base weights back bit for bit; the adapters then act beside them, as PEFT's do."""
    for adapter in adapters.values():
        adapter.unmerge()


@contextmanager
def base_weights(adapters: dict[str, LoraLinear]):
    """Compute with the base model inside this context: the reference policy of new adapters, at no cost in memory."""
    for adapter in adapters.values():
        adapter.acts = False
    try:
        yield
    finally:
        for adapter in adapters.values():
            adapter.acts = True


def snapshot(adapters: dict[str, LoraLinear]) -> dict[str, tuple]:
    """{module path: (A, B, merged)}, copied as they are now, for `snapshot_weights`."""
    def copy(tensor):
        return nn.Parameter(tensor.detach().clone(), requires_grad=False)

    return {name: (copy(a.A), copy(a.B), None if a.merged is None else a.merged.clone()) for name, a in adapters.items()}


@contextmanager
def snapshot_weights(adapters: dict[str, LoraLinear], taken: dict[str, tuple]):
    """Compute with what `snapshot` copied inside this context. Tensors are exchanged, not written: a graph that holds them stays valid."""
    now = {name: (a.A, a.B, a.merged) for name, a in adapters.items()}
    try:
        for name, tensors in taken.items():
            adapters[name].A, adapters[name].B, adapters[name].merged = tensors
        yield
    finally:
        for name, tensors in now.items():
            adapters[name].A, adapters[name].B, adapters[name].merged = tensors


def fold(model: nn.Module, adapters: dict[str, LoraLinear]) -> None:
    """Replace each adapter by one plain linear layer that holds the merged weight: the model as it is deployed.

    Raises ValueError over 4-bit weights: fold the adapter into the full ones.
    """
    if not all(adapter.base.weight.is_floating_point() for adapter in adapters.values()):
        raise ValueError("4-bit weights cannot hold a merged adapter; save it, load the model in 16 bits with lora=<that folder>, fold there")
    for name, adapter in adapters.items():
        adapter.merge()
        adapter.base.weight.data = adapter.merged
        parent, child = name.rpartition(".")[::2]
        setattr(model.get_submodule(parent), child, adapter.base)


def save(adapters: dict[str, LoraLinear], spec: LoraSpec, folder, base_name: str = "") -> None:
    """Write adapter_config.json and adapter_model.safetensors as PEFT reads them."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, adapter in adapters.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = adapter.A.detach().cpu().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = adapter.B.detach().cpu().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_name, "bias": "none",
              "r": spec.rank, "lora_alpha": spec.alpha, "lora_dropout": spec.dropout, "inference_mode": True,
              "target_modules": list(spec.target_modules)}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def read_spec(folder) -> LoraSpec:
    """The LoraSpec of a saved adapter. Raises ValueError for a folder or a kind of adapter that this module cannot load."""
    path = Path(folder) / "adapter_config.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no adapter_config.json; expected a folder that rftlab or PEFT saved")
    try:
        config = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again, or save the adapter again") from error
    odd = [k for k in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save") if config.get(k)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or odd:
        raise ValueError(f"{path} is not a plain LoRA adapter ({odd or config.get('peft_type')}); load it with PEFT instead")
    absent = [k for k in ("r", "lora_alpha", "target_modules") if config.get(k) is None]
    if absent:
        raise ValueError(f"{path} does not say {', '.join(absent)}; copy it again, or save the adapter again")
    names = config["target_modules"]
    return LoraSpec(config["r"], config["lora_alpha"], (names,) if isinstance(names, str) else tuple(sorted(names)),
                    config.get("lora_dropout", 0.0))


@torch.no_grad()
def load(adapters: dict[str, LoraLinear], folder) -> None:
    """Fill attached adapters from a folder in PEFT's format and merge.

    Raises ValueError for a missing or damaged file, and naming the first tensors that are missing, extra, or of the wrong shape;
    nothing is changed then.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / "adapter_model.safetensors"
    if not path.is_file():
        raise ValueError(f"{folder} holds no {path.name}; expected a folder that rftlab or PEFT saved")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again, or save the adapter again") from error
    wanted = {f"base_model.model.{n}.lora_{p}.weight": getattr(a, p) for n, a in adapters.items() for p in "AB"}
    wrong = sorted(set(wanted) ^ set(tensors)) or [k for k, p in wanted.items() if tensors[k].shape != p.shape]
    if wrong:
        raise ValueError(f"the adapter in {folder} does not fit this model: {', '.join(wrong[:3])} ({len(wrong)} tensors)")
    for key, parameter in wanted.items():
        parameter.copy_(tensors[key])
    merge(adapters)


def spec_dict(spec: LoraSpec | None) -> dict | None:
    """The spec as it stands in a run record."""
    return None if spec is None else {**asdict(spec), "target_modules": list(spec.target_modules)}
