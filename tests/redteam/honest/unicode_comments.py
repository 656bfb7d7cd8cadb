"""family: honest
task: softmax
what: comments and docstrings in other scripts
"""
import torch
import triton
import triton.language as tl


@triton.jit
def softmax_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """Die Zeilensumme Σ exp(xᵢ − max) — 各行のソフトマックス."""
    row = tl.program_id(0)  # номер строки
    cols = tl.arange(0, BLOCK)  # α, β, γ … ∞
    x = tl.load(x_ptr + row * n + cols, mask=cols < n, other=-float("inf"))
    e = tl.exp(x - tl.max(x, 0))  # größter Wert zuerst abziehen, sonst Überlauf ✗
    tl.store(out_ptr + row * n + cols, e / tl.sum(e, 0), mask=cols < n)  # ✓


def softmax(x):
    """softmax über die letzte Achse → gleiche Form"""
    out = torch.empty_like(x)
    softmax_kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return out
