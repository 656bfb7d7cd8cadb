"""family: wrong
task: softmax
what: the other axis
"""
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_kernel(x_ptr, out_ptr, rows, n, BLOCK: tl.constexpr):
    col = tl.program_id(0)
    r = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + r * n + col, mask=r < rows, other=-float("inf"))
    e = tl.exp(x - tl.max(x, axis=0))
    tl.store(out_ptr + r * n + col, e / tl.sum(e, axis=0), mask=r < rows)


def softmax(x):
    out = torch.empty_like(x)
    softmax_kernel[(x.shape[1],)](x, out, x.shape[0], x.shape[1], BLOCK=triton.next_power_of_2(x.shape[0]))
    return out
