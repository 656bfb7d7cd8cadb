"""family: wrong
task: min_max
what: the two results in the wrong order
"""
import torch
import triton
import triton.language as tl


@triton.jit
def min_max_kernel(x_ptr, low_ptr, high_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    x = tl.load(x_ptr + row * n + cols, mask=mask, other=float("inf"))
    tl.store(low_ptr + row, tl.min(x, axis=0))
    tl.store(high_ptr + row, tl.max(tl.where(mask, x, float("-inf")), axis=0))


def min_max(x):
    low = torch.empty(x.shape[0], dtype=x.dtype, device=x.device)
    high = torch.empty_like(low)
    min_max_kernel[(x.shape[0],)](x, low, high, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return high, low
