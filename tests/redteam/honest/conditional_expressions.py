"""family: honest
task: row_sum
what: conditional expressions on values, constants and None
"""
import torch
import triton
import triton.language as tl


@triton.jit
def pick(a, b, FIRST: tl.constexpr):
    return a if FIRST else b


@triton.jit
def sum_kernel(x_ptr, bias_ptr, out_ptr, columns, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    row = tl.program_id(0)
    SIZE: tl.constexpr = BLOCK * 2 if WIDE else BLOCK
    at = tl.arange(0, SIZE if SIZE > 16 else 16)
    x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0)
    s = tl.sum(x, 0)
    s = s if bias_ptr is None else s + tl.load(bias_ptr)
    s = s * (1.0 if columns > 0 else 0.0)
    tl.store(out_ptr + row, pick(s, -s, True))


def row_sum(x):
    out = x.new_empty(x.shape[0])
    block = triton.next_power_of_2(x.shape[1])
    sum_kernel[(x.shape[0],)](x, None, out, x.shape[1], BLOCK=block, WIDE=True if block < 64 else False)
    return out
