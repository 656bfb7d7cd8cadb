"""Checks for notebook 06: adapters, their gradients, 4-bit numbers, and what fits.

Each function takes the reader's answer; see rftlab.checks for what it prints and raises.
"""
import torch
from torch import tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rftlab import nf4
from rftlab.checks import exercise, expect_close


@exercise
def count(answer) -> None:
    """Exercise 1: trained numbers of rank 8 on q_proj and v_proj of Llama-3.1-8B. A number, by hand."""
    expect_close(
        answer, 3_407_872, case="rank 8, q_proj 4096 -> 4096 and v_proj 4096 -> 1024, 32 blocks", atol=0.5,
        hint="rank times (in + out) for each layer, and 32 blocks.",
        slips=((106_496, "this is one block: there are 32."), (4_194_304, "v_proj has 1024 outputs, not 4096: keys and values are shared."),
               (32 * (4096 * 4096 + 4096 * 1024), "these are the frozen weights."), (425_984, "this is rank 1.")))


@exercise
def merged_weight(answer) -> None:
    """Exercise 2: `merged_weight(W, A, B, alpha)` -> the weight to deploy."""
    W, A = torch.arange(12.0).view(4, 3), tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
    B = tensor([[1.0, 3.0], [0.0, -1.0], [2.0, 0.0], [1.0, 1.0]])
    update, given = B @ A, W.clone()
    expect_close(
        answer(given, A, B, 8.0), W + 4 * update, case="rank 2, alpha 8", hint="W + alpha / rank * B A.",
        slips=((W + 8 * update, "alpha is divided by the rank."), (W + update, "the scale alpha / rank is missing."),
               (4 * update, "this is the update alone: add W."), (W + 8 / 3 * update, "the rank is the number of rows of A."),
               (W + 2 * update, "the rank is the number of rows of A, not of B.")))
    expect_close(given, W, case="W itself, afterwards", hint="return a new tensor: the frozen weight is needed to unmerge.")


class _Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation inside it made."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.size = max(self.size, out.numel())
        return out


@exercise
def adapter_gradients(answer) -> None:
    """Exercise 3: `adapter_gradients(X, G, A, B, scale)` -> (dA, dB), without a matrix of the size of W."""
    generator = torch.Generator().manual_seed(0)
    X, G, A, B = (torch.randn(shape, generator=generator) for shape in ((5, 40), (5, 30), (2, 40), (30, 2)))
    with _Largest() as seen:
        got = answer(X, G, A, B, 3.0)
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise AssertionError(f"expected two tensors, the gradient of A and that of B; got {type(got).__name__}")
    weights = [t.clone().requires_grad_() for t in (A, B)]
    ((3.0 * (X @ weights[0].T) @ weights[1].T) * G).sum().backward()
    for name, one, weight in zip("AB", got, weights):
        expect_close(one, weight.grad, case=f"the gradient of {name}, 5 tokens, 40 -> 30, rank 2, scale 3", atol=1e-3,
                     hint="dA = scale (G B)^T X, dB = scale G^T (X A^T).",
                     slips=((weight.grad / 3, "the scale is missing."),))
    if seen.size >= 30 * 40:
        raise AssertionError(f"the values are right, but a matrix of {seen.size} numbers was formed, as large as W (1200)\n"
                             "  hint: multiply G by B, or X by A^T, first: that makes rows of width rank.")


@exercise
def quantise_blocks(answer) -> None:
    """Exercise 4: `quantise_blocks(weights, table)` -> codes (n,), a scale for each block of 64."""
    table = nf4.levels()
    weights = torch.randn(256, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 5).repeat_interleave(64)
    weights[64:128], weights[200] = 0, -13.0
    got = answer(weights.clone(), table)
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise AssertionError(f"expected codes and scales, two tensors; got {type(got).__name__}")
    codes, scales = nf4.quantise(weights)
    expect_close(got[1], scales, case="scales of four blocks, the second all zeros", hint="the largest absolute value of each block of 64.",
                 slips=((weights.view(4, 64).max(1).values, "the largest *size*: a negative weight may be the largest."),
                        (weights.abs().max().expand(4), "one scale for each block, not one for all.")))
    if not torch.as_tensor(got[0]).double().isfinite().all() or int(torch.as_tensor(got[0]).reshape(-1)[64]) != 7:
        raise AssertionError("the block of zeros: 0 / 0 is not a number\n  hint: divide by 1 where the scale is 0; the code of 0 is 7")
    expect_close(got[0], codes, case="codes of the nearest levels", hint="the index of the level with the smallest distance to weight / scale.",
                 slips=((torch.bucketize(torch.nan_to_num(weights.view(4, 64) / scales[:, None]), table).flatten(),
                         "this is the next level above, not the nearest."),))


@exercise
def most_completions(answer) -> None:
    """Exercise 5: `most_completions(bytes_left, layers, kv_heads, head_dim, tokens)` -> completions whose cache fits."""
    for (left, layers, heads, width, tokens), expected in (
            ((10e9, 32, 8, 128, 768), 99), ((10e9, 32, 8, 128, 1536), 49), ((1e9, 28, 2, 128, 768), 45), ((1e6, 32, 8, 128, 768), 0)):
        one = 2 * layers * heads * width * tokens * 2
        expect_close(answer(left, layers, heads, width, tokens), expected, atol=0, hint="keys and values: 2 * layers * kv_heads * head_dim * tokens * 2 bytes.",
                     case=f"{left:g} bytes, {layers} layers, {heads} heads of {width}, {tokens} tokens",
                     slips=((left // (one / 2), "keys *and* values: twice that, or two bytes a number are missing."), (left / one, "a whole number: round down."),
                            (-(-left // one), "round down: the last one does not fit."), (left // one * layers, "every layer has a cache.")))
