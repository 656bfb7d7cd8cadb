"""family: honest
task: variance
what: Welford's update, combined across lanes by tl.reduce
"""
import torch
import triton
import triton.language as tl


@triton.jit
def welford(mean_a, m2_a, count_a, mean_b, m2_b, count_b):
    count = count_a + count_b
    delta = mean_b - mean_a
    share = tl.where(count == 0.0, 0.0, count_b / count)
    return mean_a + delta * share, m2_a + m2_b + delta * delta * count_a * share, count


@triton.jit
def variance_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, BLOCK)
    mask = cols < n
    x = tl.load(x_ptr + row * n + cols, mask=mask, other=0.0)
    count = mask.to(tl.float32)
    mean, m2, weight = tl.reduce((x, tl.zeros_like(x), count), 0, welford)
    tl.store(out_ptr + row, m2 / weight)


def variance(x):
    out = torch.empty(x.shape[0], dtype=x.dtype, device=x.device)
    variance_kernel[(x.shape[0],)](x, out, x.shape[1], BLOCK=triton.next_power_of_2(x.shape[1]))
    return out
