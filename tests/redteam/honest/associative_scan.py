"""family: honest
task: cumsum
what: tl.associative_scan with a combine function
"""
import torch
import triton
import triton.language as tl


@triton.jit
def combine(left, right):
    return left + right


@triton.jit
def cumsum_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + cols, mask=cols < n, other=0.0)
    tl.store(out_ptr + row * n + cols, tl.associative_scan(x, 0, combine), mask=cols < n)


def cumsum(x):
    rows, n = x.shape
    out = torch.empty_like(x)
    cumsum_kernel[(rows,)](x, out, n, BLOCK=triton.next_power_of_2(n))
    return out
