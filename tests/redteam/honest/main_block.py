"""family: honest
task: add
what: a demonstration under if __name__ == "__main__"
"""
import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, output_ptr, n_elements):
    pid = tl.program_id(0)
    block_size: tl.constexpr = 128
    offsets = pid * block_size + tl.arange(0, block_size)
    mask = offsets < n_elements
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    output = x + y
    tl.store(output_ptr + offsets, output, mask=mask)


def add(x, y):
    output = torch.empty_like(x)
    n = x.numel()
    add_kernel[(triton.cdiv(n, 128),)](x, y, output, n)
    return output


if __name__ == "__main__":
    torch.manual_seed(0)
    a, b = torch.rand(98432, device="cuda"), torch.rand(98432, device="cuda")
    print(torch.max(torch.abs(add(a, b) - (a + b))))
