"""family: honest
task: scale
what: the wrapper works on x.view(-1) and gives the shape back
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, 2.5 * tl.load(x_ptr + offsets, mask=mask), mask=mask)


def scale(x):
    flat = x.reshape(-1)
    out = torch.empty_like(flat)
    scale_kernel[(triton.cdiv(flat.shape[0], 64),)](flat, out, flat.shape[0], BLOCK=64)
    return out.view(x.shape)
