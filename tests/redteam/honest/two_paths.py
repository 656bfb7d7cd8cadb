"""family: honest
task: relu
what: a small and a large kernel, chosen by size
"""
import torch
import triton
import triton.language as tl


@triton.jit
def relu_small(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=0.0)
    tl.store(out_ptr + i, x * (x > 0), mask=i < n)


@triton.jit
def relu_large(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=0.0)
    tl.store(out_ptr + i, tl.where(x < 0, 0.0, x), mask=i < n)


def relu(x):
    n, out = x.numel(), torch.empty_like(x)
    if n <= 256:
        relu_small[(1,)](x, out, n, BLOCK=256)
    else:
        relu_large[(triton.cdiv(n, 256),)](x, out, n, BLOCK=256)
    return out
