import torch
import triton
import triton.language as tl


@triton.jit
def add3_kernel(x_ptr, y_ptr, z_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    z = tl.load(z_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x + y + z, mask=mask)


def add3(x, y, z):
    out = torch.empty_like(x)
    n = out.numel()
    add3_kernel[(triton.cdiv(n, 128),)](x, y, z, out, n, BLOCK=128)
    return out
