"""family: honest
task: softmax
what: an online softmax in two passes with a running maximum and exp2
"""
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_kernel(X, Y, columns, stride_x, stride_y, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    LOG2E: tl.constexpr = 1.4426950408889634
    m = float("-inf")
    l = 0.0
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = tl.load(X + row * stride_x + at, mask=at < columns, other=float("-inf")) * LOG2E
        m_new = tl.maximum(m, tl.max(x, 0))
        l = l * tl.exp2(m - m_new) + tl.sum(tl.exp2(x - m_new), 0)
        m = m_new
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = tl.load(X + row * stride_x + at, mask=at < columns, other=float("-inf")) * LOG2E
        tl.store(Y + row * stride_y + at, tl.exp2(x - m) / l, mask=at < columns)


def softmax(x):
    y = torch.empty_like(x)
    softmax_kernel[(x.shape[0],)](x, y, x.shape[1], x.stride(0), y.stride(0), BLOCK=32)
    return y
