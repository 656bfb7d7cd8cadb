import torch
import triton
import triton.language as tl


@triton.jit
def silu_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x / (1.0 + tl.exp(-x)), mask=mask)


def silu(x):
    x = x.contiguous()
    out = torch.empty_like(x)
    n = out.numel()
    silu_kernel[(triton.cdiv(n, 64),)](x, out, n, BLOCK=64)
    return out
