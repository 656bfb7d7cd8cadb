"""family: honest
task: relu
what: chained comparisons of blocks, and, or and not on masks
"""
import torch
import triton
import triton.language as tl


@triton.jit
def relu_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = 0 <= at < n
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    dead = not x > 0.0
    tl.store(out_ptr + at, tl.where(dead, 0.0, x), mask=inside and at >= 0)


def relu(x):
    out = torch.empty_like(x)
    relu_kernel[(triton.cdiv(x.numel(), 128),)](x, out, x.numel(), BLOCK=128)
    return out
