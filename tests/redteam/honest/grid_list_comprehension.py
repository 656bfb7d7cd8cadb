"""family: honest
task: transpose
what: the grid from a list comprehension over the shape
"""
import torch
import triton
import triton.language as tl


@triton.jit
def transpose_kernel(x_ptr, out_ptr, m, n, xs0, xs1, os0, os1, BM: tl.constexpr, BN: tl.constexpr):
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    mask = (i < m)[:, None] & (j < n)[None, :]
    x = tl.load(x_ptr + i[:, None] * xs0 + j[None, :] * xs1, mask)
    tl.store(out_ptr + i[:, None] * os1 + j[None, :] * os0, x, mask)


def transpose(x):
    out = torch.empty(tuple(reversed_shape(x)), dtype=x.dtype)
    blocks = [8, 32]
    grid = [triton.cdiv(size, block) for size, block in zip(x.shape, blocks)]
    transpose_kernel[grid](x, out, *x.shape, *x.stride(), *out.stride(), BM=blocks[0], BN=blocks[1])
    return out


def reversed_shape(x):
    return [x.shape[-1 - d] for d in range(x.dim())]
