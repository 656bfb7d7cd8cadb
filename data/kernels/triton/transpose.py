import torch
import triton
import triton.language as tl


@triton.jit
def transpose_kernel(x_ptr, out_ptr, rows, columns, stride_row, stride_column, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = (row[:, None] < rows) & (column[None, :] < columns)
    x = tl.load(x_ptr + row[:, None] * stride_row + column[None, :] * stride_column, mask=mask)
    tl.store(out_ptr + column[None, :] * rows + row[:, None], x, mask=mask)


def transpose(x):
    rows, columns = x.shape
    out = torch.empty(columns, rows, dtype=x.dtype, device=x.device)
    grid = (triton.cdiv(rows, 16), triton.cdiv(columns, 16))
    transpose_kernel[grid](x, out, rows, columns, x.stride(0), x.stride(1), BLOCK=16)
    return out
