"""family: honest
task: transpose
what: tl.swizzle2d, tl.trans, a tuple of three for the grid
"""
import torch
import triton
import triton.language as tl


@triton.jit
def transpose_kernel(x_ptr, out_ptr, rows, cols, B: tl.constexpr):
    pid_r, pid_c = tl.swizzle2d(tl.program_id(0), tl.program_id(1), tl.num_programs(0), tl.num_programs(1), 2)
    r = pid_r * B + tl.arange(0, B)
    c = pid_c * B + tl.arange(0, B)
    tile = tl.load(x_ptr + r[:, None] * cols + c[None, :], mask=(r[:, None] < rows) & (c[None, :] < cols), other=0.0)
    tl.store(out_ptr + c[:, None] * rows + r[None, :], tl.trans(tile), mask=(c[:, None] < cols) & (r[None, :] < rows))


def transpose(x):
    rows, cols = x.shape
    out = x.new_empty((cols, rows))
    transpose_kernel[(triton.cdiv(rows, 16), triton.cdiv(cols, 16), 1)](x, out, rows, cols, B=16)
    return out
