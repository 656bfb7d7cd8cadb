"""family: honest
task: min_max
what: tl.reduce of a pair with one combine function
"""
import torch
import triton
import triton.language as tl


@triton.jit
def both(low_a, high_a, low_b, high_b):
    return tl.minimum(low_a, low_b), tl.maximum(high_a, high_b)


@triton.jit
def min_max_kernel(x_ptr, low_ptr, high_ptr, columns, stride, WIDTH: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, WIDTH)
    inside = at < columns
    x = tl.load(x_ptr + row * stride + at, mask=inside, other=0.0)
    low, high = tl.reduce((tl.where(inside, x, float("inf")), tl.where(inside, x, float("-inf"))), 0, both)
    tl.store(low_ptr + row, low)
    tl.store(high_ptr + row, high)


def min_max(x):
    low, high = (x.new_empty((x.shape[0],)) for _ in range(2))
    min_max_kernel[(x.size(0),)](x, low, high, x.size(1), x.stride(0), WIDTH=triton.next_power_of_2(x.size(1)))
    return low, high
