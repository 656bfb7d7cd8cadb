"""family: honest
task: softmax
what: torch.finfo gives the smallest number
"""
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_kernel(x_ptr, out_ptr, columns, lowest, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=lowest)
    e = tl.where(at < columns, tl.exp(x - tl.max(x, 0)), 0.0)
    tl.store(out_ptr + row * columns + at, e / tl.sum(e, 0), mask=at < columns)


def softmax(x):
    out = torch.empty_like(x)
    softmax_kernel[(x.shape[0],)](x, out, x.shape[1], torch.finfo(x.dtype).min, BLOCK=triton.next_power_of_2(x.shape[1]))
    return out
