"""family: honest
task: gelu
what: erf by a polynomial of Abramowitz and Stegun, good to 1.5e-7
"""
import torch
import triton
import triton.language as tl


@triton.jit
def erf_poly(x):
    t = 1.0 / (1.0 + 0.3275911 * tl.abs(x))
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    y = 1.0 - poly * tl.exp(-x * x)
    return tl.where(x < 0, -y, y)


@triton.jit
def gelu_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0)
    tl.store(out_ptr + offsets, 0.5 * x * (1.0 + erf_poly(x * 0.7071067811865475)), mask=mask)


def gelu(x):
    out = torch.empty_like(x)
    gelu_kernel[(triton.cdiv(x.numel(), 64),)](x, out, x.numel(), BLOCK=64)
    return out
