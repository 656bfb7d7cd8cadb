"""family: honest
task: add_strided
what: strides are passed, 1-D is seen as one row
"""
import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, cols, sx0, sx1, sy0, sy1, so0, so1, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = col < cols
    x = tl.load(x_ptr + row * sx0 + col * sx1, mask=mask)
    y = tl.load(y_ptr + row * sy0 + col * sy1, mask=mask)
    tl.store(out_ptr + row * so0 + col * so1, x + y, mask=mask)


def add(x, y):
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.dim() == 1:
        x2, y2, o2 = x.unsqueeze(0), y.unsqueeze(0), out.unsqueeze(0)
    else:
        x2, y2, o2 = x, y, out
    rows, cols = x2.shape
    grid = (rows, triton.cdiv(cols, 64))
    add_kernel[grid](
        x2, y2, o2, cols,
        x2.stride(0), x2.stride(1), y2.stride(0), y2.stride(1), o2.stride(0), o2.stride(1), BLOCK=64,
    )
    return out
