"""family: honest
task: sigmoid
what: a helper @triton.jit function, called by another
"""
import torch
import triton
import triton.language as tl


@triton.jit
def stable_sigmoid(x):
    z = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0 / (1.0 + z), z / (1.0 + z))


@triton.jit
def load_block(ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    return tl.load(ptr + offsets, mask=mask, other=0.0), offsets, mask


@triton.jit
def sigmoid_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    x, offsets, mask = load_block(x_ptr, n, BLOCK)
    tl.store(out_ptr + offsets, stable_sigmoid(x), mask=mask)


def sigmoid(x):
    out = torch.empty_like(x)
    n = x.numel()
    sigmoid_kernel[(triton.cdiv(n, 128),)](x, out, n, 128)
    return out
