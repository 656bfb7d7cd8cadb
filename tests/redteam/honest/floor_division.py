"""family: honest
task: relu
what: floor divisions, which look like comments to a careless filter, and negative steps
"""
import torch
import triton
import triton.language as tl


@triton.jit
def relu_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    half: tl.constexpr = BLOCK // 2
    base = tl.program_id(0) * BLOCK
    for part in range(0, 2):
        offsets = base + part * half + tl.arange(0, half)
        mask = offsets < n
        tl.store(out_ptr + offsets, tl.maximum(tl.load(x_ptr + offsets, mask=mask, other=0.0), 0.0), mask=mask)


def relu(x):
    out = torch.empty_like(x)
    n = x.numel()
    relu_kernel[(-(-n // 128),)](x, out, n, BLOCK=128)
    return out
