import torch
import triton
import triton.language as tl


@triton.jit
def outer_kernel(x_ptr, y_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    x = tl.load(x_ptr + row)
    y = tl.load(y_ptr + column, mask=mask)
    tl.store(out_ptr + row * columns + column, x * y, mask=mask)


def outer(x, y):
    rows, columns = x.shape[0], y.shape[0]
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    outer_kernel[(rows,)](x, y, out, columns, BLOCK=triton.next_power_of_2(columns))
    return out
