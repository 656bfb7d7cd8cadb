"""family: honest
task: min_max
what: tuples unpacked and returned, :=, annotations and augmented assignment
"""
import torch
import triton
import triton.language as tl


@triton.jit
def extremes(values, axis: tl.constexpr):
    return tl.min(values, axis), tl.max(values, axis)


@triton.jit
def min_max_kernel(x_ptr, low_ptr, high_ptr, columns, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    limits = (float("inf"), float("-inf"))
    low: tl.float32 = limits[0]
    high: tl.float32 = limits[1]
    x_ptr += row * columns
    for start in range(0, columns, BLOCK):
        if (left := columns - start) > 0:
            x = tl.load(x_ptr + start + at, mask=at < left, other=0.0)
            least, _ = extremes(tl.where(at < left, x, limits[0]), 0)
            _, most = extremes(tl.where(at < left, x, limits[1]), 0)
            low, high = min(low, least), max(high, most)
    tl.store(low_ptr + row, low)
    tl.store(high_ptr + row, high)


def min_max(x):
    rows, columns = x.shape
    low, high = torch.empty(rows), torch.empty(rows)
    min_max_kernel[(rows,)](x, low, high, columns, BLOCK=16)
    return low, high
