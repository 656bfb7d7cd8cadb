"""family: honest
task: row_sum
what: atomics of the scope of one program, each program its own number
"""
import torch
import triton
import triton.language as tl


@triton.jit
def sum_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0)
        tl.atomic_add(out_ptr + row, tl.sum(x, 0), sem="relaxed", scope="cta")


def row_sum(x):
    out = torch.zeros((x.size(0),), dtype=x.dtype, device=x.device)
    sum_kernel[(x.size(0),)](x, out, x.size(1), BLOCK=16)
    return out
