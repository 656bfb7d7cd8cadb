"""family: honest
task: add_strided
what: shapes and strides passed to the kernel as tuples
"""
import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, shape, x_strides, y_strides, out_strides, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < shape[0] * shape[1]
    row, column = at // shape[1], at % shape[1]
    x = tl.load(x_ptr + row * x_strides[0] + column * x_strides[1], mask=inside)
    y = tl.load(y_ptr + row * y_strides[0] + column * y_strides[1], mask=inside)
    tl.store(out_ptr + row * out_strides[0] + column * out_strides[1], x + y, mask=inside)


def add(x, y):
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.dim() == 1:
        x2, y2, out2 = x.unsqueeze(0), y.unsqueeze(0), out.unsqueeze(0)
    else:
        x2, y2, out2 = x, y, out
    rows, columns = x2.shape
    add_kernel[(triton.cdiv(rows * columns, 64),)](
        x2, y2, out2, (rows, columns), (x2.stride(0), x2.stride(1)), (y2.stride(0), y2.stride(1)), (out2.stride(0), out2.stride(1)), BLOCK=64)
    return out
