"""family: honest
task: softmax
what: several rows a program, reductions with keep_dims
"""
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_kernel(x_ptr, out_ptr, rows, cols, R: tl.constexpr, C: tl.constexpr):
    r = tl.program_id(0) * R + tl.arange(0, R)[:, None]
    c = tl.arange(0, C)[None, :]
    mask = (r < rows) & (c < cols)
    x = tl.load(x_ptr + r * cols + c, mask=mask, other=0.0)
    x = tl.where(c < cols, x, float("-inf"))
    e = tl.exp(x - tl.max(x, axis=1, keep_dims=True))
    tl.store(out_ptr + r * cols + c, e / tl.sum(e, axis=1, keep_dims=True), mask=mask)


def softmax(x):
    rows, cols = x.shape
    out = torch.empty_like(x)
    softmax_kernel[(triton.cdiv(rows, 4),)](x, out, rows, cols, R=4, C=triton.next_power_of_2(cols))
    return out
