"""family: honest
task: scale
what: triton.jit applied as a function, a grid from a function of its own
"""
import torch
import triton
import triton.language as tl


@triton.jit
def factor_of(KIND: tl.constexpr):
    if KIND == "scale":
        return 2.5
    return 1.0


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    tl.store(out_ptr + at, x * factor_of(KIND), mask=at < n)


def grid_of(n):
    def grid(meta):
        return (triton.cdiv(n, meta["BLOCK"]),)

    return grid


def scale(x):
    out = torch.empty_like(x)
    scale_kernel[grid_of(x.numel())](x, out, x.numel(), KIND="scale", BLOCK=128)
    return out
