"""family: honest
task: relu
what: enters the device of a tensor, and asks its index
"""
import torch
import triton
import triton.language as tl


@triton.jit
def relu_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=0.0)
    tl.store(out_ptr + i, tl.maximum(x, 0.0), mask=i < n)


def relu(x: torch.Tensor) -> torch.Tensor:
    device = x.device
    out = torch.empty(x.shape, dtype=x.dtype, device=device)
    with torch.cuda.device_of(x):
        relu_kernel[(triton.cdiv(x.numel(), 256),)](x, out, x.numel(), BLOCK=256)
    assert device.index is None or device.index >= 0
    return out
