"""family: honest
task: scale
what: a docstring quotes a function definition
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """Element-wise scaling. In PyTorch:

    def scale(x):
        return x * 2.5

    @triton.jit
    def scale_kernel(x_ptr, out_ptr):
        pass
    """
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) * 2.5, mask=mask)


def scale(x):
    """The same as

    def scale(x): return x * 2.5
    """
    out = torch.empty_like(x)
    scale_kernel[(triton.cdiv(x.numel(), 128),)](x, out, x.numel(), BLOCK=128)
    return out
