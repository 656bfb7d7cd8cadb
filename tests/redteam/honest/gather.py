"""family: honest
task: gather_rows
what: indices from memory, a 2-D block of rows and columns
"""
import torch
import triton
import triton.language as tl


@triton.jit
def gather_kernel(table_ptr, index_ptr, out_ptr, count, width, ROWS: tl.constexpr, COLS: tl.constexpr):
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, COLS)
    source = tl.load(index_ptr + r, mask=r < count, other=0)
    mask = (r[:, None] < count) & (c[None, :] < width)
    values = tl.load(table_ptr + source[:, None] * width + c[None, :], mask=mask, other=0.0)
    tl.store(out_ptr + r[:, None] * width + c[None, :], values, mask=mask)


def gather_rows(table, index):
    count, width = index.numel(), table.shape[1]
    out = torch.empty((count, width), dtype=table.dtype, device=table.device)
    gather_kernel[(triton.cdiv(count, 8),)](table, index, out, count, width, ROWS=8, COLS=triton.next_power_of_2(width))
    return out
