"""family: honest
task: add
what: prints and assertions of every kind, left in from debugging
"""
import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr, DEBUG: tl.constexpr = False):
    tl.static_assert(BLOCK % 16 == 0, "BLOCK must be a multiple of 16")
    tl.static_print("block", BLOCK)
    tl.device_assert(n > 0, "nothing to add")
    pid = tl.program_id(0)
    if DEBUG:
        print("pid", pid)
        tl.device_print("pid ", pid)
    at = pid * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    y = tl.load(y_ptr + at, mask=at < n)
    tl.store(out_ptr + at, x + y, mask=at < n)


def add(x, y):
    out = torch.empty_like(x)
    add_kernel[(triton.cdiv(x.numel(), 64),)](x, y, out, x.numel(), BLOCK=64, DEBUG=True)
    return out
