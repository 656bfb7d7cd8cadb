"""family: wrong
task: cumsum
what: programs wait for nobody: each reads what the one before may not have written yet
"""
import torch
import triton
import triton.language as tl


@triton.jit
def cumsum_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    block = tl.program_id(1)
    cols = block * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + cols, mask=cols < n, other=0.0)
    carry = tl.load(out_ptr + row * n + block * BLOCK - 1, mask=block > 0, other=0.0)
    tl.store(out_ptr + row * n + cols, tl.cumsum(x, axis=0) + carry, mask=cols < n)


def cumsum(x):
    out = torch.zeros_like(x)
    cumsum_kernel[(x.shape[0], triton.cdiv(x.shape[1], 16))](x, out, x.shape[1], BLOCK=16)
    return out
