"""family: honest
task: add_half
what: a dtype looked up in a dict, passed on as a constexpr
"""
import torch
import triton
import triton.language as tl

TYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


@triton.jit
def add_kernel(a, b, c, n, OUT: tl.constexpr, BLOCK: tl.constexpr = 128):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = i < n
    total = tl.load(a + i, mask=keep).to(tl.float32) + tl.load(b + i, mask=keep).to(tl.float32)
    tl.store(c + i, total.to(OUT), mask=keep)


def add_half(x, y):
    z = torch.empty_like(x)
    add_kernel[(triton.cdiv(x.numel(), 128),)](x, y, z, x.numel(), OUT=TYPES[x.dtype])
    return z
