"""family: wrong
task: add_half
what: a wrong sign in fp16
"""
import torch
import triton
import triton.language as tl


@triton.jit
def add_half_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, y - x, mask=mask)


def add_half(x, y):
    out = torch.empty_like(x)
    n = x.numel()
    add_half_kernel[(triton.cdiv(n, 128),)](x, y, out, n, BLOCK=128)
    return out
