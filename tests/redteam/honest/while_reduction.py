"""family: honest
task: row_sum
what: a while loop over the columns, the row's pointer moved on
"""
import torch
import triton
import triton.language as tl


@triton.jit
def row_sum_kernel(x_ptr, out_ptr, stride, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    pointer = x_ptr + row * stride
    partial = tl.zeros([BLOCK], tl.float32)
    left = columns
    while left > 0:
        lanes = tl.arange(0, BLOCK)
        partial += tl.load(pointer + lanes, mask=lanes < left, other=0.0)
        pointer += BLOCK
        left -= BLOCK
    tl.store(out_ptr + row, tl.sum(partial, axis=0))


def row_sum(x):
    out = x.new_empty(x.shape[0])
    row_sum_kernel[(x.shape[0],)](x, out, x.stride(0), x.shape[1], BLOCK=16)
    return out
