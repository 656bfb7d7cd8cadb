"""family: wrong
task: row_sum
what: atomics under autotune without reset_to_zero
"""
import torch
import triton
import triton.language as tl


@triton.autotune([triton.Config({"BLOCK": 16}), triton.Config({"BLOCK": 32})], key=["columns"])
@triton.jit
def sum_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out_ptr + row, tl.sum(tl.load(x_ptr + row * columns + at, mask=at < columns, other=0.0), 0))


def row_sum(x):
    out = torch.zeros(x.shape[0], dtype=x.dtype)
    sum_kernel[lambda meta: (x.shape[0], triton.cdiv(x.shape[1], meta["BLOCK"]))](x, out, x.shape[1])
    return out
