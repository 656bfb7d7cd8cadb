"""family: wrong
task: sigmoid
what: the sum in the denominator is rounded to fp16
"""
import torch
import triton
import triton.language as tl


@triton.jit
def sigmoid_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, 1.0 / (1.0 + tl.exp(-x)).to(tl.float16).to(tl.float32), mask=mask)


def sigmoid(x):
    out = torch.empty_like(x)
    n = x.numel()
    sigmoid_kernel[(triton.cdiv(n, 128),)](x, out, n, BLOCK=128)
    return out
