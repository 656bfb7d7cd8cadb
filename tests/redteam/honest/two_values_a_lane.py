"""family: honest
task: relu
what: 2-D offsets for a flat tensor
"""
import torch
import triton
import triton.language as tl


@triton.jit
def relu_kernel(x_ptr, out_ptr, n, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    base = tl.program_id(0) * ROWS * WIDTH
    offsets = base + tl.arange(0, ROWS)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=0)
    tl.store(out_ptr + offsets, tl.where(x > 0, x, tl.zeros_like(x)), mask=mask)


def relu(x):
    out = torch.empty_like(x)
    relu_kernel[(triton.cdiv(x.numel(), 32 * 4),)](x, out, x.numel(), ROWS=32, WIDTH=4)
    return out
