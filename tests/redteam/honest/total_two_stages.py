"""family: honest
task: total
what: partial sums in a scratch tensor, and a second kernel with one program
"""
import torch
import triton
import triton.language as tl


@triton.jit
def partial_kernel(x, scratch, n, B: tl.constexpr):
    p = tl.program_id(0)
    i = p * B + tl.arange(0, B)
    tl.store(scratch + p, tl.sum(tl.load(x + i, mask=i < n, other=0.0)))


@triton.jit
def final_kernel(scratch, out, count, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out, tl.sum(tl.load(scratch + i, mask=i < count, other=0.0)))


def total(x):
    n, block = x.numel(), 64
    count = (n + block - 1) // block
    scratch = torch.empty(count, dtype=torch.float32, device=x.device)
    out = torch.empty((1,), dtype=x.dtype, device=x.device)
    partial_kernel[(count,)](x, scratch, n, B=block)
    final_kernel[(1,)](scratch, out, count, B=triton.next_power_of_2(count))
    return out
