"""family: honest
task: softmax
what: the block's width from bit_length, warps from the width
"""
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_kernel(out_ptr, x_ptr, stride, columns, WIDTH: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, WIDTH)
    x = tl.load(x_ptr + row * stride + at, mask=at < columns, other=-float("inf"))
    top = tl.exp(x - tl.max(x, axis=0))
    tl.store(out_ptr + row * stride + at, top / tl.sum(top, axis=0), mask=at < columns)


def softmax(x):
    rows, columns = x.shape
    width = 1 << (columns - 1).bit_length()
    num_warps = 4
    if width >= 2048:
        num_warps = 8
    out = torch.empty_like(x)
    softmax_kernel[(rows,)](out, x, x.stride(0), columns, WIDTH=width, num_warps=num_warps)
    return out
