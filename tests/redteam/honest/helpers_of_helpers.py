"""family: honest
task: gelu
what: jitted helpers that call each other, one with a constexpr switch and two results
"""
import torch
import triton
import triton.language as tl

SQRT_HALF = tl.constexpr(0.7071067811865476)


@triton.jit
def halves(x):
    return 0.5 * x, x * SQRT_HALF


@triton.jit
def activation(x, KIND: tl.constexpr):
    half, scaled = halves(x)
    if KIND == 0:
        return x
    elif KIND == 1:
        return half * (1.0 + tl.erf(scaled))
    else:
        return half


@triton.jit
def apply_kernel(src, dst, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
    idx = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = idx < n
    tl.store(dst + idx, activation(tl.load(src + idx, mask=live, other=0.0), KIND), mask=live)


def gelu(x):
    dst = torch.empty_like(x)
    apply_kernel[(triton.cdiv(x.numel(), 64),)](x, dst, x.numel(), 1, BLOCK=64)
    return dst
