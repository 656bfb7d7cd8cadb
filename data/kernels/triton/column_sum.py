import torch
import triton
import triton.language as tl


@triton.jit
def column_sum_kernel(x_ptr, out_ptr, rows, columns, BLOCK: tl.constexpr):
    column = tl.program_id(0)
    row = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + column, mask=row < rows, other=0.0)
    tl.store(out_ptr + column, tl.sum(x, axis=0))


def column_sum(x):
    rows, columns = x.shape
    out = torch.empty(columns, dtype=x.dtype, device=x.device)
    column_sum_kernel[(columns,)](x, out, rows, columns, BLOCK=triton.next_power_of_2(rows))
    return out
