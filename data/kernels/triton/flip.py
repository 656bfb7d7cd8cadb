import torch
import triton
import triton.language as tl


@triton.jit
def flip_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + n - 1 - offsets, mask=mask)
    tl.store(out_ptr + offsets, x, mask=mask)


def flip(x):
    out = torch.empty_like(x)
    n = x.numel()
    flip_kernel[(triton.cdiv(n, 128),)](x, out, n, BLOCK=128)
    return out
