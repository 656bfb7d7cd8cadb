"""family: honest
task: cumsum
what: tl.cumsum by blocks with a carry, in a while loop
"""
import torch
import triton
import triton.language as tl


@triton.jit
def cumsum_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    base = tl.program_id(0) * n
    carry = 0.0
    start = 0
    while start < n:
        cols = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + base + cols, mask=cols < n, other=0.0)
        tl.store(out_ptr + base + cols, tl.cumsum(x, axis=0) + carry, mask=cols < n)
        carry += tl.sum(x, axis=0)
        start += BLOCK


def cumsum(x):
    out = torch.empty_like(x)
    cumsum_kernel[(x.size(0),)](x, out, x.size(1), BLOCK=32)
    return out
