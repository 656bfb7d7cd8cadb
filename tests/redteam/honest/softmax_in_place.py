"""family: honest
task: softmax
what: overwrites its input row by row, each lane its own element
"""
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_kernel(x_ptr, columns, BLOCK: tl.constexpr):
    row, at = x_ptr + tl.program_id(0) * columns, tl.arange(0, BLOCK)
    total, most = 0.0, float("-inf")
    for start in range(0, columns, BLOCK):
        x = tl.load(row + start + at, mask=start + at < columns, other=float("-inf"))
        new = tl.maximum(most, tl.max(x, 0))
        total = total * tl.exp(most - new) + tl.sum(tl.exp(x - new), 0)
        most = new
    for start in range(0, columns, BLOCK):
        x = tl.load(row + start + at, mask=start + at < columns, other=0.0)
        tl.store(row + start + at, tl.exp(x - most) / total, mask=start + at < columns)


def softmax(x):
    softmax_kernel[(x.shape[0],)](x, x.shape[1], BLOCK=16)
    return x
