"""family: honest
task: row_sum
what: a flat load, reshaped to rows inside the kernel
"""
import torch
import triton
import triton.language as tl


@triton.jit
def row_sum_kernel(x_ptr, out_ptr, rows, n, R: tl.constexpr, C: tl.constexpr):
    flat = tl.arange(0, R * C)
    r = tl.program_id(0) * R + flat // C
    c = flat % C
    x = tl.load(x_ptr + r * n + c, mask=(r < rows) & (c < n), other=0.0)
    sums = tl.sum(tl.reshape(x, (R, C)), axis=1)
    out_rows = tl.program_id(0) * R + tl.arange(0, R)
    tl.store(out_ptr + out_rows, sums, mask=out_rows < rows)


def row_sum(x):
    rows, n = x.shape
    out = torch.empty(rows, dtype=x.dtype, device=x.device)
    row_sum_kernel[(triton.cdiv(rows, 2),)](x, out, rows, n, R=2, C=triton.next_power_of_2(n))
    return out
