"""family: honest
task: scale
what: kernels stand in a table at module level and are launched out of it
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_flat(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) * 2.5, mask=at < n)


@triton.jit
def scale_rows(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    place = tl.program_id(0) * columns + at
    tl.store(out_ptr + place, 2.5 * tl.load(x_ptr + place, mask=at < columns), mask=at < columns)


KERNELS = {1: scale_flat, 2: scale_rows}


def scale(x):
    out, kernel = torch.empty_like(x), KERNELS[x.dim()]
    if x.dim() == 1:
        kernel[(triton.cdiv(x.numel(), 128),)](x, out, x.numel(), BLOCK=128)
    else:
        kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return out
