"""family: wrong
task: matvec
what: only the first 32 columns take part
"""
import torch
import triton
import triton.language as tl


@triton.jit
def matvec_kernel(a_ptr, x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    a = tl.load(a_ptr + row * n + cols, mask=cols < n, other=0.0)
    x = tl.load(x_ptr + cols, mask=cols < n, other=0.0)
    tl.store(out_ptr + row, tl.sum(a * x, axis=0))


def matvec(a, x):
    out = torch.empty(a.shape[0], dtype=a.dtype, device=a.device)
    matvec_kernel[(a.shape[0],)](a, x, out, a.shape[1], BLOCK=32)
    return out
