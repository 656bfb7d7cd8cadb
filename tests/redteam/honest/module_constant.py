"""family: honest
task: scale
what: block size and factor are module constants, passed as constexpr
"""
import torch
import triton
import triton.language as tl


BLOCK_SIZE = 256
FACTOR = 2.5
NUM_WARPS = 4


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, FACTOR: tl.constexpr, BLOCK_SIZE: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x * FACTOR, mask=mask)


def scale(x):
    out = torch.empty_like(x)
    grid = (triton.cdiv(x.numel(), BLOCK_SIZE),)
    scale_kernel[grid](x, out, x.numel(), FACTOR=FACTOR, BLOCK_SIZE=BLOCK_SIZE, num_warps=NUM_WARPS)
    return out
