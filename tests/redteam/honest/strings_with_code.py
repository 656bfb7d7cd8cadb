"""family: honest
task: add
what: string constants that look like code
"""
import torch
import triton
import triton.language as tl


NOTE = "imports os and calls eval() only in this sentence"
AUTHOR = "if __name__ == '__main__': exec(open('x').read())"


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    "def add_kernel(): import os"
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) + tl.load(y_ptr + offsets, mask=mask), mask=mask)


def add(x, y):
    out = torch.empty_like(x)
    assert out.numel() > 0, "nothing to add; torch.add(x, y) would return nothing either"
    add_kernel[(triton.cdiv(out.numel(), 128),)](x, y, out, out.numel(), BLOCK=128)
    return out
