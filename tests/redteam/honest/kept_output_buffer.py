"""family: honest
task: scale
what: keeps its output buffers by shape
"""
import torch
import triton
import triton.language as tl


BUFFERS = {}


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) * 2.5, mask=at < n)


def buffer_like(x):
    key = (tuple(x.shape), x.dtype)
    if key not in BUFFERS:
        BUFFERS[key] = torch.empty_like(x)
    return BUFFERS[key]


def scale(x):
    out = buffer_like(x)
    scale_kernel[(triton.cdiv(x.numel(), 64),)](x, out, x.numel(), BLOCK=64)
    return out
