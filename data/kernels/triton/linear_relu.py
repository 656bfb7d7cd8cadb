import torch
import triton
import triton.language as tl


@triton.jit
def linear_relu_kernel(a_ptr, b_ptr, bias_ptr, out_ptr, m, n, k, stride_am, stride_ak, stride_bk, stride_bn, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, k, BLOCK):
        inner = start + tl.arange(0, BLOCK)
        a = tl.load(
            a_ptr + row[:, None] * stride_am + inner[None, :] * stride_ak,
            mask=(row[:, None] < m) & (inner[None, :] < k),
            other=0.0,
        )
        b = tl.load(
            b_ptr + inner[:, None] * stride_bk + column[None, :] * stride_bn,
            mask=(inner[:, None] < k) & (column[None, :] < n),
            other=0.0,
        )
        total += tl.dot(a, b, input_precision="ieee")
    bias = tl.load(bias_ptr + column, mask=column < n)
    total = tl.maximum(total + bias[None, :], 0.0)
    tl.store(out_ptr + row[:, None] * n + column[None, :], total, mask=(row[:, None] < m) & (column[None, :] < n))


def linear_relu(a, b, bias):
    m, k = a.shape
    n = b.shape[1]
    out = torch.empty(m, n, dtype=a.dtype, device=a.device)
    grid = (triton.cdiv(m, 16), triton.cdiv(n, 16))
    linear_relu_kernel[grid](
        a, b, bias, out, m, n, k, a.stride(0), a.stride(1), b.stride(0), b.stride(1), BLOCK=16
    )
    return out
