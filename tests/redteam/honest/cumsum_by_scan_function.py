"""family: honest
task: cumsum
what: tl.associative_scan with a combine function of its own, rows in a two-dimensional block
"""
import torch
import triton
import triton.language as tl


@triton.jit
def plus(a, b):
    return a + b


@triton.jit
def cumsum_kernel(x_ptr, out_ptr, rows, columns, R: tl.constexpr, C: tl.constexpr):
    r = tl.program_id(0) * R + tl.arange(0, R)[:, None]
    c = tl.arange(0, C)[None, :]
    inside = (r < rows) & (c < columns)
    x = tl.load(x_ptr + r * columns + c, mask=inside, other=0.0)
    tl.store(out_ptr + r * columns + c, tl.associative_scan(x, 1, plus), mask=inside)


def cumsum(x):
    rows, columns = x.shape
    out = torch.empty_like(x)
    cumsum_kernel[(triton.cdiv(rows, 2),)](x, out, rows, columns, R=2, C=triton.next_power_of_2(columns))
    return out
