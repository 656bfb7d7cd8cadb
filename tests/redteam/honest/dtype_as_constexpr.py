"""family: honest
task: row_sum
what: the accumulator's dtype is a constexpr argument, the launch takes a dictionary
"""
import torch
import triton
import triton.language as tl


@triton.jit
def row_sum_kernel(x_ptr, out_ptr, n, ACC: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + cols, mask=cols < n, other=0.0).to(ACC)
    tl.store(out_ptr + row, tl.sum(x, axis=0).to(out_ptr.dtype.element_ty))


def row_sum(x):
    rows, n = x.shape
    out = torch.empty(rows, dtype=x.dtype, device=x.device)
    config = {"ACC": tl.float32, "BLOCK": triton.next_power_of_2(n), "num_warps": 2}
    row_sum_kernel[(rows,)](x, out, n, **config)
    return out
