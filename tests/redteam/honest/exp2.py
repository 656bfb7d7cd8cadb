"""family: honest
task: sigmoid
what: exp2 with a constant, a chain of small steps
"""
import torch
import triton
import triton.language as tl


LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def sigmoid_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0)
    y = -x
    y *= LOG2_E
    y = tl.exp2(y)
    y += 1.0
    tl.store(out_ptr + offsets, 1.0 / y, mask=mask)


def sigmoid(x):
    out = torch.empty_like(x)
    sigmoid_kernel[(triton.cdiv(x.numel(), 64),)](x, out, x.numel(), BLOCK=64)
    return out
