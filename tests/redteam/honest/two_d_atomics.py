"""family: honest
task: row_sum
what: a 2-D grid of tiles, partial row sums by atomics with a mask
"""
import torch
import triton
import triton.language as tl


@triton.jit
def row_sum_kernel(x_ptr, out_ptr, rows, cols, R: tl.constexpr, C: tl.constexpr):
    r = tl.program_id(0) * R + tl.arange(0, R)
    c = tl.program_id(1) * C + tl.arange(0, C)
    x = tl.load(x_ptr + r[:, None] * cols + c[None, :], mask=(r[:, None] < rows) & (c[None, :] < cols), other=0.0)
    tl.atomic_add(out_ptr + r, tl.sum(x, axis=1), mask=r < rows, sem="relaxed")


def row_sum(x):
    rows, cols = x.shape
    out = torch.zeros(rows, dtype=x.dtype, device=x.device)
    row_sum_kernel[(triton.cdiv(rows, 4), triton.cdiv(cols, 32))](x, out, rows, cols, R=4, C=32)
    return out
