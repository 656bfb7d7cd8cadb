"""family: honest
task: softmax
what: autotune drops the configurations whose blocks are too small for a row
"""
import torch
import triton
import triton.language as tl


def wide_enough(configs, arguments, **options):
    return [config for config in configs if config.kwargs["BLOCK"] >= arguments["columns"]]


@triton.autotune(
    configs=[triton.Config({"BLOCK": size}, num_warps=warps) for size in (16, 32, 64, 128) for warps in (2, 4)],
    key=["columns"], prune_configs_by={"early_config_prune": wide_enough},
)
@triton.jit
def softmax_kernel(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * columns + at, mask=at < columns, other=-float("inf"))
    x = tl.exp(x - tl.max(x, axis=0))
    tl.store(out_ptr + row * columns + at, x / tl.sum(x, axis=0), mask=at < columns)


def softmax(x):
    out = torch.empty_like(x)
    softmax_kernel[(x.shape[0],)](x, out, x.shape[1])
    return out
