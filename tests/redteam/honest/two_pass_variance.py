"""family: honest
task: variance
what: two passes over blocks with vector accumulators
"""
import torch
import triton
import triton.language as tl


@triton.jit
def variance_kernel(x_ptr, out_ptr, n_cols, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    x_ptr += row * n_cols
    _mean = tl.zeros([BLOCK], dtype=tl.float32)
    for off in range(0, n_cols, BLOCK):
        cols = off + tl.arange(0, BLOCK)
        _mean += tl.load(x_ptr + cols, mask=cols < n_cols, other=0.)
    mean = tl.sum(_mean, axis=0) / n_cols
    _var = tl.zeros([BLOCK], dtype=tl.float32)
    for off in range(0, n_cols, BLOCK):
        cols = off + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + cols, mask=cols < n_cols, other=0.)
        x = tl.where(cols < n_cols, x - mean, 0.)
        _var += x * x
    tl.store(out_ptr + row, tl.sum(_var, axis=0) / n_cols)


def variance(x):
    out = torch.empty((x.shape[0],), dtype=torch.float32)
    variance_kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=16)
    return out
