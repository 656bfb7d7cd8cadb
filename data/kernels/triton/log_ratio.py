import torch
import triton
import triton.language as tl


@triton.jit
def log_ratio_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=1.0)
    y = tl.load(y_ptr + offsets, mask=mask, other=1.0)
    tl.store(out_ptr + offsets, tl.log(x / y), mask=mask)


def log_ratio(x, y):
    out = torch.empty_like(x)
    n = out.numel()
    log_ratio_kernel[(triton.cdiv(n, 64),)](x, y, out, n, BLOCK=64)
    return out
