"""family: honest
task: matvec
what: a tile of rows and a loop over columns
"""
import torch
import triton
import triton.language as tl


@triton.jit
def matvec_kernel(a_ptr, x_ptr, y_ptr, m, n, BM: tl.constexpr, BN: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, n, BN):
        cols = start + tl.arange(0, BN)
        a = tl.load(a_ptr + rows[:, None] * n + cols[None, :], mask=(rows[:, None] < m) & (cols[None, :] < n), other=0.0)
        x = tl.load(x_ptr + cols, mask=cols < n, other=0.0)
        acc += a * x[None, :]
    tl.store(y_ptr + rows, tl.sum(acc, axis=1), mask=rows < m)


def matvec(a, x):
    m, n = a.shape
    y = torch.empty(m, dtype=a.dtype, device=a.device)
    matvec_kernel[(triton.cdiv(m, 16),)](a, x, y, m, n, BM=16, BN=32)
    return y
