"""family: honest
task: scale
what: annotations on every argument and on locals
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_kernel(x_ptr: tl.tensor, out_ptr: tl.tensor, n: tl.int32, factor: tl.float32, BLOCK: tl.constexpr) -> None:
    pid: tl.tensor = tl.program_id(0)
    offsets: tl.tensor = pid * BLOCK + tl.arange(0, BLOCK)
    mask: tl.tensor = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) * factor, mask=mask)


def scale(x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = torch.empty_like(x)
    n: int = x.numel()
    factor: float = 2.5
    scale_kernel[(triton.cdiv(n, 64),)](x, out, n, factor, BLOCK=64)
    return out
