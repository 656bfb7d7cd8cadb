import torch
import triton
import triton.language as tl


@triton.jit
def hardswish_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    gate = tl.minimum(tl.maximum(x + 3.0, 0.0), 6.0)
    tl.store(out_ptr + offsets, x * gate / 6.0, mask=mask)


def hardswish(x):
    out = torch.empty_like(x)
    n = out.numel()
    hardswish_kernel[(triton.cdiv(n, 64),)](x, out, n, BLOCK=64)
    return out
