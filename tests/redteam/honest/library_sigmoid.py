"""family: honest
task: sigmoid
what: tl.sigmoid of the library, a ternary on a constexpr
"""
import torch
import triton
import triton.language as tl


@triton.jit
def activation_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr, KIND: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0)
    y = tl.sigmoid(x) if KIND == "sigmoid" else tl.maximum(x, 0.0)
    tl.store(out_ptr + offsets, y, mask=mask)


def sigmoid(x):
    out = torch.empty_like(x)
    activation_kernel[(triton.cdiv(x.numel(), 64),)](x, out, x.numel(), BLOCK=64, KIND="sigmoid")
    return out
