"""family: honest
task: gather_rows
what: several indices a program, rows in blocks of columns, cache hints
"""
import torch
import triton
import triton.language as tl


@triton.jit
def gather_kernel(table_ptr, index_ptr, out_ptr, count, width, I: tl.constexpr, W: tl.constexpr):
    i = tl.program_id(0) * I + tl.arange(0, I)
    w = tl.program_id(1) * W + tl.arange(0, W)
    chosen = tl.load(index_ptr + i, mask=i < count, other=0)
    inside = (i < count)[:, None] & (w < width)[None, :]
    rows = tl.load(table_ptr + chosen[:, None] * width + w[None, :], mask=inside, cache_modifier=".cg", eviction_policy="evict_first")
    tl.store(out_ptr + i[:, None] * width + w[None, :], rows, mask=inside)


def gather_rows(table, index):
    count, width = index.numel(), table.size(1)
    out = torch.empty((count, width), dtype=table.dtype, device=table.device)
    gather_kernel[(triton.cdiv(count, 4), triton.cdiv(width, 16))](table, index, out, count, width, I=4, W=16)
    return out
