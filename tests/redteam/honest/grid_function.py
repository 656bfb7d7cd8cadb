"""family: honest
task: add
what: a nested call chain: the grid comes from a helper function, the launch too
"""
import torch
import triton
import triton.language as tl


def blocks(n, block):
    return (triton.cdiv(n, block),)


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) + tl.load(y_ptr + offsets, mask=mask), mask=mask)


def launch(x, y, out, block=128):
    n = out.numel()
    add_kernel[blocks(n, block)](x, y, out, n, BLOCK=block)


def add(x, y):
    out = torch.empty_like(x)
    launch(x, y, out, block=64)
    return out
