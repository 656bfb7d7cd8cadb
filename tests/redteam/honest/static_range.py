"""family: honest
task: row_sum
what: tl.static_range unrolls the blocks of a row
"""
import torch
import triton
import triton.language as tl


@triton.jit
def row_sum_kernel(x_ptr, out_ptr, stride, n, BLOCK: tl.constexpr, STEPS: tl.constexpr):
    row = tl.program_id(0)
    acc = tl.zeros([BLOCK], dtype=tl.float32)
    for step in tl.static_range(STEPS):
        cols = step * BLOCK + tl.arange(0, BLOCK)
        acc += tl.load(x_ptr + row * stride + cols, mask=cols < n, other=0.0)
    tl.store(out_ptr + row, tl.sum(acc, axis=0))


def row_sum(x):
    rows, n = x.shape
    out = torch.empty(rows, device=x.device)
    row_sum_kernel[(rows,)](x, out, x.stride(0), n, BLOCK=16, STEPS=triton.cdiv(n, 16))
    return out
