"""family: honest
task: total
what: two stages: partial sums, then a second kernel adds them up
"""
import torch
import triton
import triton.language as tl


@triton.jit
def partial_kernel(x_ptr, partial_ptr, n, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    offsets = pid * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
    tl.store(partial_ptr + pid, tl.sum(x))


@triton.jit
def final_kernel(partial_ptr, out_ptr, count, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    values = tl.load(partial_ptr + offsets, mask=offsets < count, other=0.0)
    tl.store(out_ptr, tl.sum(values))


def total(x):
    blocks = triton.cdiv(x.numel(), 32)
    partial = x.new_empty(blocks)
    out = x.new_empty(1)
    partial_kernel[(blocks,)](x, partial, x.numel(), BLOCK=32)
    final_kernel[(1,)](partial, out, blocks, BLOCK=triton.next_power_of_2(blocks))
    return out
