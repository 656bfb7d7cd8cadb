"""family: honest
task: scale
what: tabs for indentation and emoji in comments
"""
import torch
import triton
import triton.language as tl


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
	offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # 🚀 one block each
	mask = offsets < n  # ⚠️ guard the tail
	tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) * 2.5, mask=mask)


def scale(x):
	out = torch.empty_like(x)
	scale_kernel[(triton.cdiv(x.numel(), 128),)](x, out, x.numel(), BLOCK=128)
	return out  # ✅ done
