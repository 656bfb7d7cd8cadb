"""family: honest
task: sigmoid
what: libdevice.tanh, the logistic function as half a tangent
"""
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def sigmoid_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0)
    tl.store(out_ptr + offsets, 0.5 * libdevice.tanh(0.5 * x) + 0.5, mask=mask)


def sigmoid(x):
    out = torch.empty_like(x)
    sigmoid_kernel[(triton.cdiv(x.numel(), 128),)](x, out, x.numel(), BLOCK=128)
    return out
