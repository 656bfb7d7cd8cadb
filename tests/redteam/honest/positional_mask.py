"""family: honest
task: add
what: mask and other by position
"""
import torch
import triton
import triton.language as tl


@triton.jit
def kernel(a, b, c, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    inside = i < n
    tl.store(c + i, tl.load(a + i, inside, 0.0) + tl.load(b + i, inside, 0.0), inside)


def add(x, y):
    z = torch.empty_like(x)
    kernel[((x.numel() + 63) // 64,)](x, y, z, x.numel(), 64)
    return z
