"""family: wrong
task: gather_rows
what: reads the row's number instead of the index
"""
import torch
import triton
import triton.language as tl


@triton.jit
def gather_kernel(table_ptr, index_ptr, out_ptr, height, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    source = (tl.load(index_ptr + row) + row) % height
    tl.store(out_ptr + row * n + cols, tl.load(table_ptr + source * n + cols, mask=mask), mask=mask)


def gather_rows(table, index):
    out = torch.empty(index.shape[0], table.shape[1], dtype=table.dtype, device=table.device)
    gather_kernel[(index.shape[0],)](table, index, out, table.shape[0], table.shape[1], BLOCK=triton.next_power_of_2(table.shape[1]))
    return out
