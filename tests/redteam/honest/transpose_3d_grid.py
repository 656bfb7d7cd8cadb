"""family: honest
task: transpose
what: a grid of three dimensions, one of size 1, strides of both tensors
"""
import torch
import triton
import triton.language as tl


@triton.jit
def transpose_kernel(x, y, M, N, sxm, sxn, sym, syn, T: tl.constexpr):
    tile_m, tile_n, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    m = tile_m * T + tl.arange(0, T)
    n = tile_n * T + tl.arange(0, T)
    inside = (m[:, None] < M) & (n[None, :] < N)
    tile = tl.load(x + batch * M * N + m[:, None] * sxm + n[None, :] * sxn, mask=inside)
    tl.store(y + batch * M * N + n[:, None] * sym + m[None, :] * syn, tl.trans(tile), mask=tl.trans(inside))


def transpose(x):
    m, n = x.size()
    y = torch.empty(n, m, device=x.device, dtype=x.dtype)
    transpose_kernel[triton.cdiv(m, 8), triton.cdiv(n, 8), 1](x, y, m, n, *x.stride(), *y.stride(), T=8)
    return y
