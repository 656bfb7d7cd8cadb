"""family: wrong
task: layer_norm
what: no eps under the root: a constant row divides by zero
"""
import torch
import triton
import triton.language as tl


@triton.jit
def layer_norm_kernel(x_ptr, w_ptr, b_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    x = tl.load(x_ptr + row * n + cols, mask=mask, other=0.0)
    d = tl.where(mask, x - tl.sum(x, axis=0) / n, 0.0)
    var = tl.sum(d * d, axis=0) / n
    y = d / tl.sqrt(var) * tl.load(w_ptr + cols, mask=mask) + tl.load(b_ptr + cols, mask=mask)
    tl.store(out_ptr + row * n + cols, y, mask=mask)


def layer_norm(x, weight, bias):
    out = torch.empty_like(x)
    layer_norm_kernel[(x.shape[0],)](x, weight, bias, out, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return out
