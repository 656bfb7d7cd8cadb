"""family: wrong
task: variance
what: divides by n - 1
"""
import torch
import triton
import triton.language as tl


@triton.jit
def variance_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    x = tl.load(x_ptr + row * n + cols, mask=mask, other=0.0)
    d = tl.where(mask, x - tl.sum(x, axis=0) / n, 0.0)
    tl.store(out_ptr + row, tl.sum(d * d, axis=0) / (n - 1))


def variance(x):
    out = torch.empty(x.shape[0], dtype=x.dtype, device=x.device)
    variance_kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return out
