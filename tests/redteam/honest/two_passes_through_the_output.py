"""family: honest
task: softmax
what: stores exponentials, then divides them where they lie
"""
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    most = -float("inf")
    for start in tl.range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        most = tl.maximum(most, tl.max(tl.load(x_ptr + row * columns + at, mask=at < columns, other=-float("inf")), 0))
    total = 0.0
    for start in tl.range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        e = tl.exp(tl.load(x_ptr + row * columns + at, mask=at < columns, other=-float("inf")) - most)
        tl.store(out_ptr + row * columns + at, e, mask=at < columns)
        total += tl.sum(e, 0)
    for start in tl.range(0, columns, BLOCK, num_stages=2):
        at = start + tl.arange(0, BLOCK)
        e = tl.load(out_ptr + row * columns + at, mask=at < columns)
        tl.store(out_ptr + row * columns + at, e / total, mask=at < columns)


def softmax(x):
    out = torch.empty_like(x)
    softmax_kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=16)
    return out
