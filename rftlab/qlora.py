"""QLoRA (Dettmers et al. 2023, arXiv 2305.14314): adapters over linear layers that are held in 4 bits, by bitsandbytes.

A weight costs 4.13 bits in place of 16. Each product writes its layer out in full first, so a pass takes longer; the adapters cannot be
merged into 4-bit weights and act beside them. rftlab/nf4.py is the format by hand.
"""
import logging

from torch import nn

from rftlab import lora as adapters_of


def load_policy(name, lora=None, seed=0, dtype=None):
    """Like rftlab.load_policy, with every linear layer of the blocks in NF4 under double quantisation; embeddings, norms and
    the output head stay as they are. lora: a LoraSpec, rank 16 by default. Raises ValueError without bitsandbytes."""
    import rftlab

    library()
    policy = rftlab.load_policy(name, dtype=dtype)
    quantise(policy.model)
    policy.spec = lora or adapters_of.LoraSpec()
    policy.adapters = adapters_of.attach(policy.model, policy.spec, seed)
    return policy


def quantise(model: nn.Module) -> None:
    """Replace the linear layers, all but the output head, by bitsandbytes' 4-bit ones."""
    head = model.get_output_embeddings()
    for name, layer in [(n, m) for n, m in model.named_modules() if type(m) is nn.Linear and m is not head]:
        parent, child = name.rpartition(".")[::2]
        setattr(model.get_submodule(parent), child, four_bit(layer))


def library():
    """bitsandbytes, without its advice on faster kernels from the network. Raises ValueError where it is not installed."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes
    except ImportError as error:
        raise ValueError("QLoRA needs bitsandbytes; install it with `pip install bitsandbytes`, or train plain LoRA") from error
    return bitsandbytes


def four_bit(layer: nn.Linear):
    bitsandbytes = library()
    made = bitsandbytes.nn.Linear4bit(layer.in_features, layer.out_features, layer.bias is not None, compute_dtype=layer.weight.dtype,
                                      compress_statistics=True, quant_type="nf4", device="meta")
    made.weight = bitsandbytes.nn.Params4bit(layer.weight.detach().clone(), requires_grad=False, quant_type="nf4", compress_statistics=True)
    made.bias = layer.bias
    # without gradients bitsandbytes would repack a weight for some processors' kernels, after which there is no way back to train
    made.support_avx512bf16_for_cpu = False
    return made.to(layer.weight.device)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights that do not train, scales of the 4-bit ones included."""
    total = 0
    for parameter in (p for p in model.parameters() if not p.requires_grad):
        total += parameter.untyped_storage().nbytes()
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            total += sum(t.nbytes for t in (state.absmax, state.state2.absmax))
    return total
