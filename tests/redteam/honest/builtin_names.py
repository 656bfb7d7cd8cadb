"""family: honest
task: row_sum
what: locals that are named like builtins
"""
import torch
import triton
import triton.language as tl


@triton.jit
def row_sum_kernel(input, out, len, BLOCK: tl.constexpr):
    id = tl.program_id(0)
    range_ = tl.arange(0, BLOCK)
    sum = tl.zeros((BLOCK,), dtype=tl.float32)
    for min in range(0, len, BLOCK):
        index = min + range_
        sum += tl.load(input + id * len + index, mask=index < len, other=0.0)
    tl.store(out + id, tl.sum(sum, axis=0))


def row_sum(x):
    input = x
    max = input.shape[0]
    out = torch.empty(max, dtype=input.dtype, device=input.device)
    row_sum_kernel[(max,)](input, out, input.shape[1], BLOCK=32)
    return out
