"""family: wrong
task: scale_by
what: the factor of the first case is built in
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_by_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x * 0.5, mask=mask)


def scale_by(x, factor):
    out = torch.empty_like(x)
    n = x.numel()
    scale_by_kernel[(triton.cdiv(n, 128),)](x, out, n, BLOCK=128)
    return out
