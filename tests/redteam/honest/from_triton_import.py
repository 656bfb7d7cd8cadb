"""family: honest
task: relu
what: from triton import language as tl
"""
from triton import language as tl
import triton
import torch


@triton.jit
def relu_kernel(src, dst, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(dst + i, tl.maximum(tl.load(src + i, mask=i < n), 0.0), mask=i < n)


def relu(x):
    out = x.new_empty(x.shape)
    relu_kernel[triton.cdiv(x.numel(), 32),](x, out, x.numel(), B=32)
    return out
