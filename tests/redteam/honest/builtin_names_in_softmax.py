"""family: honest
task: softmax
what: max, sum, input, iter and type as local names in kernel and wrapper
"""
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_kernel(input, output, len, BLOCK: tl.constexpr):
    iter = tl.program_id(0)
    dir = tl.arange(0, BLOCK)
    input = tl.load(input + iter * len + dir, mask=dir < len, other=-float("inf"))
    max = tl.max(input, axis=0)
    exp = tl.exp(input - max)
    sum = tl.sum(exp, axis=0)
    tl.store(output + iter * len + dir, exp / sum, mask=dir < len)


def softmax(x):
    type = x.dtype
    output = torch.empty(x.shape, dtype=type, device=x.device)
    len, next = x.shape[1], triton.next_power_of_2(x.shape[1])
    softmax_kernel[(x.shape[0],)](x, output, len, BLOCK=next)
    return output
