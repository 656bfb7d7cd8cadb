"""family: honest
task: relu
what: the sign bit through a bitcast
"""
import torch
import triton
import triton.language as tl


@triton.jit
def relu_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0)
    bits = x.to(tl.int32, bitcast=True)
    keep = ~(bits >> 31)
    tl.store(out_ptr + offsets, (bits & keep).to(tl.float32, bitcast=True), mask=mask)


def relu(x):
    out = torch.empty_like(x)
    relu_kernel[(triton.cdiv(x.numel(), 128),)](x, out, x.numel(), BLOCK=128)
    return out
