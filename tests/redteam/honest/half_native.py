"""family: honest
task: add_half
what: fp16 maths, as the reference does
"""
import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x + y, mask=mask)


def add_half(x, y):
    out = torch.empty_like(x)
    add_kernel[(triton.cdiv(out.numel(), 256),)](x, y, out, out.numel(), 256)
    return out
