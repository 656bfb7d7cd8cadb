"""family: honest
task: transpose
what: loads everything, waits, and stores in other lanes: with a barrier that is no race
"""
import torch
import triton
import triton.language as tl


@triton.jit
def transpose_kernel(x_ptr, rows, columns, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < rows * columns)
    tl.debug_barrier()
    tl.store(x_ptr + at % columns * rows + at // columns, x, mask=at < rows * columns)


def transpose(x):
    rows, columns = x.shape
    transpose_kernel[(1,)](x, rows, columns, BLOCK=triton.next_power_of_2(rows * columns))
    return x.view(columns, rows)
