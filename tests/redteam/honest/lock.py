"""family: honest
task: total
what: a spin lock around a plain addition
"""
import torch
import triton
import triton.language as tl


@triton.jit
def total_kernel(x_ptr, lock_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    s = tl.sum(tl.load(x_ptr + at, mask=at < n, other=0.0), 0)
    while tl.atomic_cas(lock_ptr, 0, 1) == 1:
        pass
    tl.store(out_ptr, tl.load(out_ptr) + s)
    tl.debug_barrier()
    tl.atomic_xchg(lock_ptr, 0)


def total(x):
    out, lock = torch.zeros(1, dtype=x.dtype), torch.zeros(1, dtype=torch.int32)
    total_kernel[(triton.cdiv(x.numel(), 64),)](x, lock, out, x.numel(), BLOCK=64)
    return out
