"""family: honest
task: sigmoid
what: functions of libdevice and tl.math imported by name
"""
import torch
import triton
import triton.language as tl
from triton.language.extra.libdevice import rcp_rn
from triton.language.math import exp2


@triton.jit
def sigmoid_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    tl.store(out_ptr + at, rcp_rn(1.0 + exp2(-1.4426950408889634 * x)), mask=at < n)


def sigmoid(x):
    out = torch.empty_like(x)
    sigmoid_kernel[(triton.cdiv(x.numel(), 256),)](x, out, x.numel(), BLOCK=256)
    return out
