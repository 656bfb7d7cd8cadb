"""family: wrong
task: layer_norm
what: adds eps after the root, and takes 1e-3
"""
import torch
import triton
import triton.language as tl


@triton.jit
def norm_kernel(x_ptr, w_ptr, b_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    inside = at < columns
    x = tl.load(x_ptr + row * columns + at, mask=inside, other=0.0)
    d = tl.where(inside, x - tl.sum(x, 0) / columns, 0.0)
    y = d / (tl.sqrt(tl.sum(d * d, 0) / columns) + 1e-3)
    tl.store(out_ptr + row * columns + at, y * tl.load(w_ptr + at, mask=inside) + tl.load(b_ptr + at, mask=inside), mask=inside)


def layer_norm(x, weight, bias):
    out = torch.empty_like(x)
    norm_kernel[(x.shape[0],)](x, weight, bias, out, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return out
