"""family: wrong
task: gelu
what: the approximation by tanh, which differs in the fourth digit
"""
import torch
import triton
import triton.language as tl


@triton.jit
def gelu_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    u = 0.7978845608 * (x + 0.044715 * x * x * x)
    tl.store(out_ptr + at, x * tl.sigmoid(2.0 * u), mask=at < n)


def gelu(x):
    out = torch.empty_like(x)
    gelu_kernel[(triton.cdiv(x.numel(), 64),)](x, out, x.numel(), BLOCK=64)
    return out
