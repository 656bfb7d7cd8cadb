"""family: honest
task: add
what: tensor descriptors made in the wrapper
"""
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def add_kernel(x_desc, y_desc, out_desc, BLOCK: tl.constexpr):
    start = tl.program_id(0) * BLOCK
    out_desc.store([start], x_desc.load([start]) + y_desc.load([start]))


def add(x, y):
    out = torch.empty_like(x)
    n = x.numel()
    descriptors = [TensorDescriptor(t.view(-1), shape=[n], strides=[1], block_shape=[64]) for t in (x, y, out)]
    add_kernel[(triton.cdiv(n, 64),)](*descriptors, BLOCK=64)
    return out
