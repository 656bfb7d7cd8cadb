"""family: honest
task: add
what: asks x.device.type, whether it is on a GPU, and enters its device
"""
import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n_elements, BLOCK_SIZE: tl.constexpr):
    pid = tl.program_id(axis=0)
    offsets = pid * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < n_elements
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) + tl.load(y_ptr + offsets, mask=mask), mask=mask)


def add(x, y):
    assert x.device.type == y.device.type, "both on one device"
    if torch.cuda.is_available():
        assert x.is_cuda and y.is_cuda
    output = torch.empty_like(x)
    n_elements = output.numel()
    with torch.cuda.device(x.device):
        add_kernel[(triton.cdiv(n_elements, 128),)](x, y, output, n_elements, BLOCK_SIZE=128)
    torch.cuda.synchronize()
    return output
