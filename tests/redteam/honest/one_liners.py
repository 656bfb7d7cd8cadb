"""family: honest
task: add
what: short names, semicolons, a backslash, everything on few lines
"""
import torch
import triton
import triton.language as tl


@triton.jit
def k(x, y, z, n, B: tl.constexpr):
    p = tl.program_id(0); i = p * B + tl.arange(0, B); m = i < n
    tl.store(z + i, tl.load(x + i, mask=m) \
             + tl.load(y + i, mask=m), mask=m)


def add(x, y): z = torch.empty_like(x); n = z.numel(); k[(triton.cdiv(n, 64),)](x, y, z, n, B=64); return z
