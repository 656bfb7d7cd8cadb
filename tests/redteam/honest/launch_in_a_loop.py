"""family: honest
task: row_sum
what: one launch per row, on a view of the row
"""
import torch
import triton
import triton.language as tl


@triton.jit
def sum_kernel(row_ptr, out_ptr, n, BLOCK: tl.constexpr):
    cols = tl.arange(0, BLOCK)
    tl.store(out_ptr, tl.sum(tl.load(row_ptr + cols, mask=cols < n, other=0.0), axis=0))


def row_sum(x):
    rows, n = x.shape
    out = torch.empty(rows, dtype=x.dtype, device=x.device)
    block = max(16, triton.next_power_of_2(n))
    for row in range(rows):
        sum_kernel[(1,)](x[row], out[row : row + 1], n, BLOCK=block)
    return out
