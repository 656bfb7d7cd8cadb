"""family: honest
task: matmul
what: assertions and exceptions with f-strings in the wrapper
"""
import torch
import triton
import triton.language as tl


@triton.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, M, N, K, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    j = tl.program_id(1) * B + tl.arange(0, B)
    acc = tl.zeros((B, B), tl.float32)
    for k0 in range(0, K, B):
        k = k0 + tl.arange(0, B)
        a = tl.load(a_ptr + i[:, None] * K + k[None, :], mask=(i[:, None] < M) & (k[None, :] < K), other=0.0)
        b = tl.load(b_ptr + k[:, None] * N + j[None, :], mask=(k[:, None] < K) & (j[None, :] < N), other=0.0)
        acc = tl.dot(a, b, acc=acc, input_precision="ieee")
    tl.store(c_ptr + i[:, None] * N + j[None, :], acc, mask=(i[:, None] < M) & (j[None, :] < N))


def matmul(a, b):
    assert a.dim() == 2 and b.dim() == 2, f"expected two matrices, got {a.dim()}-D and {b.dim()}-D"
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"cannot multiply {tuple(a.shape)} by {tuple(b.shape)}: {a.shape[1]} != {b.shape[0]}")
    assert a.dtype == b.dtype == torch.float32, "only float32 is supported, got %s" % a.dtype
    (M, K), N = a.shape, b.shape[1]
    c = torch.empty(M, N)
    matmul_kernel[triton.cdiv(M, 16), triton.cdiv(N, 16)](a, b, c, M, N, K, B=16)
    return c
