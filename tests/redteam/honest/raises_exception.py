"""family: honest
task: scale
what: raises Exception and friends for what it does not take
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) * 2.5, mask=at < n)


def scale(x):
    if not x.is_contiguous():
        raise Exception("expected a contiguous tensor")
    if x.numel() > 2**31:
        raise OverflowError(f"too many elements: {x.numel()}")
    out = torch.empty_like(x)
    scale_kernel[(triton.cdiv(x.numel(), 64),)](x, out, x.numel(), BLOCK=64)
    return out
