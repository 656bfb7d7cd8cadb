"""family: honest
task: scale
what: @triton.jit with options, math.ceil for the grid
"""
import math

import torch
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["n"])
def scale_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask, other=0.0) * 2.5, mask=mask)


def scale(x):
    out = torch.empty_like(x)
    n = x.numel()
    scale_kernel[(math.ceil(n / 128),)](x, out, n, BLOCK=128)
    return out
