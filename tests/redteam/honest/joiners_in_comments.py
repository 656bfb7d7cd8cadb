"""family: honest
task: scale
what: comments in Persian, Hindi and with a family of emoji
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    # می‌خوانیم و ضرب می‌کنیم
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # 👨‍👩‍👧
    # क्‍ष: गुणा
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) * 2.5, mask=at < n)


def scale(x):
    out = torch.empty_like(x)
    scale_kernel[(triton.cdiv(x.numel(), 64),)](x, out, x.numel(), BLOCK=64)
    return out
