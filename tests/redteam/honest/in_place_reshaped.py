"""family: honest
task: scale
what: in place, loaded as a matrix and stored as a vector
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_kernel(x_ptr, n, BLOCK: tl.constexpr):
    base = tl.program_id(0) * BLOCK
    two = base + tl.arange(0, BLOCK // 8)[:, None] * 8 + tl.arange(0, 8)[None, :]
    x = tl.load(x_ptr + two, mask=two < n)
    at = base + tl.arange(0, BLOCK)
    tl.store(x_ptr + at, tl.reshape(x * 2.5, (BLOCK,)), mask=at < n)


def scale(x):
    scale_kernel[(triton.cdiv(x.numel(), 64),)](x, x.numel(), BLOCK=64)
    return x
