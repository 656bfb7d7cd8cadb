import torch
import triton
import triton.language as tl


@triton.jit
def rsqrt_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=1.0)
    tl.store(out_ptr + offsets, 1.0 / tl.sqrt(x), mask=mask)


def rsqrt(x):
    out = torch.empty_like(x)
    n = out.numel()
    rsqrt_kernel[(triton.cdiv(n, 128),)](x, out, n, BLOCK=128)
    return out
