"""family: honest
task: layer_norm
what: mean and inverse deviation kept in tensors, a second kernel applies them
"""
import torch
import triton
import triton.language as tl


@triton.jit
def stats_kernel(X, Mean, Rstd, N, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    x = tl.load(X + row * N + cols, mask=cols < N, other=0.0)
    mean = tl.sum(x, axis=0) / N
    xbar = tl.where(cols < N, x - mean, 0.0)
    var = tl.sum(xbar * xbar, axis=0) / N
    tl.store(Mean + row, mean)
    tl.store(Rstd + row, 1 / tl.sqrt(var + eps))


@triton.jit
def apply_kernel(X, W, B, Y, Mean, Rstd, N, total, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < total
    row = offs // N
    col = offs % N
    x = tl.load(X + offs, mask=mask)
    y = (x - tl.load(Mean + row, mask=mask)) * tl.load(Rstd + row, mask=mask)
    y = y * tl.load(W + col, mask=mask) + tl.load(B + col, mask=mask)
    tl.store(Y + offs, y, mask=mask)


def layer_norm(x, weight, bias):
    M, N = x.shape
    mean = torch.empty((M,), dtype=torch.float32, device=x.device)
    rstd = torch.empty((M,), dtype=torch.float32, device=x.device)
    y = torch.empty_like(x)
    stats_kernel[(M,)](x, mean, rstd, N, 1e-5, BLOCK=triton.next_power_of_2(N))
    apply_kernel[(triton.cdiv(M * N, 64),)](x, weight, bias, y, mean, rstd, N, M * N, BLOCK=64)
    return y
