"""family: honest
task: layer_norm
what: tl.fma, tl.rsqrt, tl.cast, tl.full, tl.broadcast_to
"""
import torch
import triton
import triton.language as tl


@triton.jit
def layer_norm_kernel(x_ptr, w_ptr, b_ptr, y_ptr, n, EPS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    count = tl.cast(n, tl.float32)
    x = tl.load(x_ptr + row * n + cols, mask=mask, other=0.0)
    mean = tl.broadcast_to(tl.sum(x, axis=0) / count, (BLOCK,))
    zero = tl.full((BLOCK,), 0.0, dtype=tl.float32)
    d = tl.where(mask, x - mean, zero)
    rstd = tl.rsqrt(tl.sum(d * d, axis=0) / count + EPS)
    y = tl.fma(d * rstd, tl.load(w_ptr + cols, mask=mask, other=0.0), tl.load(b_ptr + cols, mask=mask, other=0.0))
    tl.store(y_ptr + row * n + cols, y, mask=mask)


def layer_norm(x, weight, bias):
    y = torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device=x.device)
    layer_norm_kernel[(x.size(0),)](x, weight, bias, y, x.size(1), EPS=1e-5, BLOCK=triton.next_power_of_2(x.size(1)))
    return y
