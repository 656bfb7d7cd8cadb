"""family: honest
task: softmax
what: three kernels with scratch tensors between them
"""
import torch
import triton
import triton.language as tl


BLOCK = 32


@triton.jit
def row_max_kernel(x_ptr, max_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    for start in range(0, n, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        best = tl.maximum(best, tl.load(x_ptr + row * n + cols, mask=cols < n, other=float("-inf")))
    tl.store(max_ptr + row, tl.max(best, axis=0))


@triton.jit
def row_total_kernel(x_ptr, max_ptr, total_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    top = tl.load(max_ptr + row)
    acc = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        acc += tl.exp(tl.load(x_ptr + row * n + cols, mask=cols < n, other=float("-inf")) - top)
    tl.store(total_ptr + row, tl.sum(acc))


@triton.jit
def normalise_kernel(x_ptr, max_ptr, total_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = cols < n
    x = tl.load(x_ptr + row * n + cols, mask=mask, other=0.0)
    value = tl.exp(x - tl.load(max_ptr + row)) / tl.load(total_ptr + row)
    tl.store(out_ptr + row * n + cols, value, mask=mask)


def softmax(x):
    rows, n = x.shape
    top = torch.empty(rows, dtype=torch.float32, device=x.device)
    total = torch.empty_like(top)
    out = torch.empty_like(x)
    row_max_kernel[(rows,)](x, top, n, BLOCK=BLOCK)
    row_total_kernel[(rows,)](x, top, total, n, BLOCK=BLOCK)
    normalise_kernel[(rows, triton.cdiv(n, BLOCK))](x, top, total, out, n, BLOCK=BLOCK)
    return out
