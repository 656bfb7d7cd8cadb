"""family: honest
task: matvec
what: columns shared among programs, partial sums added with relaxed atomics
"""
import torch
import triton
import triton.language as tl


@triton.jit
def matvec_kernel(a_ptr, x_ptr, out_ptr, rows, columns, stride, R: tl.constexpr, C: tl.constexpr):
    r = tl.program_id(0) * R + tl.arange(0, R)
    c = tl.program_id(1) * C + tl.arange(0, C)
    a = tl.load(a_ptr + r[:, None] * stride + c[None, :], mask=(r[:, None] < rows) & (c[None, :] < columns), other=0.0)
    x = tl.load(x_ptr + c, mask=c < columns, other=0.0)
    tl.atomic_add(out_ptr + r, tl.sum(a * x[None, :], axis=1), mask=r < rows, sem="relaxed")


def matvec(a, x):
    rows, columns = a.shape
    out = torch.zeros((rows,), dtype=a.dtype, device=a.device)
    matvec_kernel[(triton.cdiv(rows, 16), triton.cdiv(columns, 16))](a, x, out, rows, columns, a.stride(0), R=16, C=16)
    return out
