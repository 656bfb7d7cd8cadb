"""family: honest
task: scale_by
what: autotune with key, warmup and rep; a scalar of Python's as an argument
"""
import torch
import triton
import triton.language as tl


def configurations():
    return [triton.Config({"BLOCK": b}, num_warps=w, num_stages=s) for b in (32, 64, 256) for w, s in ((2, 2), (4, 3))]


@triton.autotune(configs=configurations(), key=["n"], warmup=5, rep=20)
@triton.jit
def scale_kernel(x, out, factor, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, i < n) * factor, i < n)


def scale_by(x, factor):
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    n = x.numel()
    scale_kernel[lambda meta: (triton.cdiv(n, meta["BLOCK"]),)](x, out, factor, n)
    return out
