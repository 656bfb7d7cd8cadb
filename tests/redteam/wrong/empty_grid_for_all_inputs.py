"""family: wrong
task: relu
what: the grid is n // BLOCK, and the blocks are larger than any input
"""
import torch
import triton
import triton.language as tl


@triton.jit
def relu_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=offsets < n), 0.0), mask=offsets < n)


def relu(x):
    out = torch.empty_like(x)
    relu_kernel[(x.numel() // 1024,)](x, out, x.numel(), BLOCK=1024)
    return out
