"""family: honest
task: relu
what: tl.where
"""
import torch
import triton
import triton.language as tl


@triton.jit
def relu_kernel(x_ptr, y_ptr, n: int, BLOCK: tl.constexpr = 256):
    offs = tl.program_id(axis=0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < n, other=0.0)
    tl.store(y_ptr + offs, tl.where(x > 0, x, 0.0), mask=offs < n)


def relu(x: torch.Tensor) -> torch.Tensor:
    """Kernel and wrapper have default arguments and annotations."""
    y = torch.empty_like(x)
    relu_kernel[(triton.cdiv(x.numel(), 256), 1, 1)](x, y, x.numel())
    return y
