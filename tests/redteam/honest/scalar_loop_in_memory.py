"""family: honest
task: cumsum
what: one number at a time, the running sum read back from memory
"""
import torch
import triton
import triton.language as tl


@triton.jit
def cumsum_kernel(x_ptr, out_ptr, columns):
    row = tl.program_id(0)
    tl.store(out_ptr + row * columns, tl.load(x_ptr + row * columns))
    for j in range(1, columns):
        before = tl.load(out_ptr + row * columns + j - 1)
        tl.store(out_ptr + row * columns + j, before + tl.load(x_ptr + row * columns + j))


def cumsum(x):
    out = torch.empty_like(x)
    cumsum_kernel[(x.shape[0],)](x, out, x.shape[1])
    return out
