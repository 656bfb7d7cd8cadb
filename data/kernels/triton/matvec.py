import torch
import triton
import triton.language as tl


@triton.jit
def matvec_kernel(a_ptr, x_ptr, out_ptr, columns, stride_row, stride_column, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    a = tl.load(a_ptr + row * stride_row + column * stride_column, mask=mask, other=0.0)
    x = tl.load(x_ptr + column, mask=mask, other=0.0)
    tl.store(out_ptr + row, tl.sum(a * x, axis=0))


def matvec(a, x):
    x = x.contiguous()
    rows, columns = a.shape
    out = torch.empty(rows, dtype=a.dtype, device=a.device)
    matvec_kernel[(rows,)](a, x, out, columns, a.stride(0), a.stride(1), BLOCK=triton.next_power_of_2(columns))
    return out
