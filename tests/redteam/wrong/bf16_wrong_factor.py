"""family: wrong
task: scale_bf16
what: 1.6 for 1.5
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_bf16_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x * 1.6, mask=mask)


def scale_bf16(x):
    out = torch.empty_like(x)
    n = x.numel()
    scale_bf16_kernel[(triton.cdiv(n, 128),)](x, out, n, BLOCK=128)
    return out
