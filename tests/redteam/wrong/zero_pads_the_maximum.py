"""family: wrong
task: min_max
what: lanes past the end count as 0 in the maximum: wrong where all of a row is negative
"""
import torch
import triton
import triton.language as tl


@triton.jit
def min_max_kernel(x_ptr, low_ptr, high_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    low = tl.load(x_ptr + row * n + cols, mask=mask, other=float("inf"))
    high = tl.load(x_ptr + row * n + cols, mask=mask, other=0.0)
    tl.store(low_ptr + row, tl.min(low, axis=0))
    tl.store(high_ptr + row, tl.max(high, axis=0))


def min_max(x):
    low = torch.empty(x.shape[0], dtype=x.dtype, device=x.device)
    high = torch.empty_like(low)
    min_max_kernel[(x.shape[0],)](x, low, high, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return low, high
