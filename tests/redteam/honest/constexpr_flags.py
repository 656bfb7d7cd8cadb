"""family: honest
task: layer_norm
what: constexpr flags choose code at compile time
"""
import torch
import triton
import triton.language as tl


@triton.jit
def norm_kernel(x_ptr, w_ptr, b_ptr, y_ptr, n, eps, HAS_WEIGHT: tl.constexpr, HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr):
    tl.static_assert(BLOCK >= 1)
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    x = tl.load(x_ptr + row * n + cols, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x) / n
    centred = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centred * centred) / n
    y = centred * (1 / tl.sqrt(var + eps))
    if HAS_WEIGHT:
        y = y * tl.load(w_ptr + cols, mask=mask)
    if HAS_BIAS:
        y = y + tl.load(b_ptr + cols, mask=mask)
    else:
        y = y
    tl.store(y_ptr + row * n + cols, y, mask=mask)


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    rows, n = x.shape
    y = torch.empty_like(x)
    norm_kernel[(rows,)](
        x, weight, bias, y, n, eps,
        HAS_WEIGHT=weight is not None, HAS_BIAS=bias is not None, BLOCK=triton.next_power_of_2(n),
    )
    return y
