import torch
import triton
import triton.language as tl


@triton.jit
def lower_triangle_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    x = tl.load(x_ptr + row * columns + column, mask=mask)
    tl.store(out_ptr + row * columns + column, tl.where(column <= row, x, 0.0), mask=mask)


def lower_triangle(x):
    rows, columns = x.shape
    out = torch.empty_like(x)
    lower_triangle_kernel[(rows,)](x, out, columns, BLOCK=triton.next_power_of_2(columns))
    return out
