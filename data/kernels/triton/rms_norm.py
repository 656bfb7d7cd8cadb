import torch
import triton
import triton.language as tl


@triton.jit
def rms_norm_kernel(x_ptr, weight_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    x = tl.load(x_ptr + row * columns + column, mask=mask, other=0.0)
    weight = tl.load(weight_ptr + column, mask=mask)
    mean_square = tl.sum(x * x, axis=0) / columns
    tl.store(out_ptr + row * columns + column, x / tl.sqrt(mean_square + 1e-2) * weight, mask=mask)


def rms_norm(x, weight):
    rows, columns = x.shape
    out = torch.empty_like(x)
    rms_norm_kernel[(rows,)](x, weight, out, columns, BLOCK=triton.next_power_of_2(columns))
    return out
