"""family: honest
task: scale
what: as many programs as the GPU has multiprocessors, each in a loop
"""
import torch
import triton
import triton.language as tl

HAS_GPU = torch.cuda.is_available()


@triton.jit
def scale_kernel(x_ptr, out_ptr, n, NUM_SMS: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0)
    tiles = tl.cdiv(n, BLOCK)
    for tile in tl.range(start, tiles, NUM_SMS):
        at = tile * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + at, mask=at < n)
        tl.store(out_ptr + at, 2.5 * x, mask=at < n)


def scale(x):
    out = torch.empty_like(x)
    n = x.numel()
    sms = torch.cuda.get_device_properties(x.device).multi_processor_count
    programs = min(sms, triton.cdiv(n, 64))
    scale_kernel[(programs,)](x, out, n, NUM_SMS=programs, BLOCK=64)
    return out
