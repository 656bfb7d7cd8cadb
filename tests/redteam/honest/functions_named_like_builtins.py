"""family: honest
task: scale
what: helpers at module level called filter, hash and input
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) * 2.5, mask=at < n)


def hash(n):
    return triton.cdiv(n, 64)


def filter(x):
    return x.contiguous()


def scale(x):
    x = filter(x)
    out = torch.empty_like(x)
    scale_kernel[(hash(x.numel()),)](x, out, x.numel(), BLOCK=64)
    return out
