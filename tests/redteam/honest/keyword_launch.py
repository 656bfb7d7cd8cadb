"""family: honest
task: scale_by
what: every launch argument by keyword; a float scalar
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_kernel(x_ptr, out_ptr, factor, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(pointer=out_ptr + offsets, value=tl.load(pointer=x_ptr + offsets, mask=mask, other=0.0) * factor, mask=mask)


def scale_by(x, factor):
    out = torch.empty_like(input=x)
    n = x.numel()
    scale_kernel[(triton.cdiv(x=n, y=128),)](x_ptr=x, out_ptr=out, factor=factor, n=n, BLOCK=128, num_warps=4, num_stages=1)
    return out
