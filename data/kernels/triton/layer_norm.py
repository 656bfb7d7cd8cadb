import torch
import triton
import triton.language as tl


@triton.jit
def layer_norm_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    x = tl.load(x_ptr + row * columns + column, mask=mask, other=0.0)
    mean = tl.sum(x, axis=0) / columns
    centred = tl.where(mask, x - mean, 0.0)
    variance = tl.sum(centred * centred, axis=0) / columns
    weight = tl.load(weight_ptr + column, mask=mask)
    bias = tl.load(bias_ptr + column, mask=mask)
    out = centred / tl.sqrt(variance + 1e-2) * weight + bias
    tl.store(out_ptr + row * columns + column, out, mask=mask)


def layer_norm(x, weight, bias):
    rows, columns = x.shape
    out = torch.empty_like(x)
    layer_norm_kernel[(rows,)](x, weight, bias, out, columns, BLOCK=triton.next_power_of_2(columns))
    return out
