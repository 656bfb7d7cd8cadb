"""family: honest
task: variance
what: a shifted sum of squares, with constexpr arithmetic and tl.static_assert
"""
import torch
import triton
import triton.language as tl


@triton.jit
def variance_kernel(x_ptr, out_ptr, columns, LANES: tl.constexpr, STEPS: tl.constexpr):
    tl.static_assert(LANES >= 16, "a warp has work")
    HALF: tl.constexpr = LANES // 2
    row = tl.program_id(0)
    first = tl.load(x_ptr + row * columns)
    s1 = tl.zeros((HALF * 2,), dtype=tl.float32)
    s2 = tl.zeros_like(s1)
    for step in tl.static_range(STEPS):
        at = step * LANES + tl.arange(0, LANES)
        d = tl.where(at < columns, tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0) - first, 0.0)
        s1 += d
        s2 += d * d
    m = tl.sum(s1) / columns
    tl.store(out_ptr + row, tl.sum(s2) / columns - m * m)


def variance(x):
    rows, columns = x.shape
    out = torch.empty(rows, device=x.device)
    variance_kernel[(rows,)](x, out, columns, LANES=32, STEPS=triton.cdiv(columns, 32))
    return out
