"""When does an output count as equal to the reference's? One rule for the grader and for the lint.

    |got - expected| <= relative * |expected| + share * (median of the non-zero |expected|) + multiple * noise

`noise` is how far the reference itself moves when its inputs move by one rounding step, so a sum that cancels is
not held to digits that nobody can compute; by up to 19 steps where an answer is lost (`is_lost`), as sin(exp(15))
is. The rule knows no absolute number: answers in the millionths or in the billions are held to the same digits. fp32
answers that were rounded to fp16 fail it. Published graders use `allclose` with atol=1e-2, which pays zeros for every
small answer (METR 2025; Sakana's robust-kbench 2025).
"""

import torch

# Per dtype: share of the element, share of the typical element, multiple of the noise. An honest kernel adds up in
# another order than the reference, so in fp32 its noise is a few times the reference's; half types have wide digits.
DIGITS = {
    torch.float64: (1e-7, 1e-8, 4.0),
    torch.float32: (1e-4, 1e-5, 4.0),
    torch.float16: (2e-3, 1e-3, 1.0),
    torch.bfloat16: (1.6e-2, 8e-3, 1.0),
}
LOST = 0.02  # share of an answer: one that moves further cannot be computed, and how far it moves is luck
FLUSHED = {torch.float16: 2.0**-22}  # smaller values may be flushed to zero; 2**-126 for the wider types


def tolerance(expected: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """How far each element may be off, in float64, shaped like `expected`; 0 for integers and booleans."""
    if not expected.is_floating_point():
        return torch.zeros(expected.shape, dtype=torch.float64)
    relative, share, multiple = DIGITS[expected.dtype]
    size = expected.double().abs()
    return relative * size + share * _typical(size) + multiple * noise.double() + FLUSHED.get(expected.dtype, 2.0**-126)


def is_lost(noise: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Which elements move by more than `LOST` of their size and of the typical size, shaped like `expected`.

    None of integers, which are compared exactly, and none of half types, whose single steps are that wide.
    """
    if expected.dtype not in (torch.float32, torch.float64):
        return torch.zeros(expected.shape, dtype=torch.bool)
    size = expected.double().abs()
    return noise > LOST * size.clamp(min=_typical(size))


def _typical(size: torch.Tensor) -> float:
    nonzero = size[size > 0]
    return float(nonzero.median()) if nonzero.numel() else 0.0


def mismatch(got: torch.Tensor, expected: torch.Tensor, allowed: torch.Tensor) -> str:
    """Return "" when `got` matches, otherwise what is wrong in words that give no expected value away."""
    if got.dtype != expected.dtype:
        return f"the result is {_name(got.dtype)}, expected {_name(expected.dtype)}"
    if got.shape != expected.shape:
        return f"the result has shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    if got.is_floating_point() and not bool(torch.isfinite(got).all()):
        return f"{int((~torch.isfinite(got)).sum())} of {got.numel()} values are not finite"
    if got.is_floating_point():
        off = (got.double() - expected.double()).abs() > allowed
    else:
        off = got != expected
    if not bool(off.any()):
        return ""
    first = tuple(off.nonzero()[0].tolist())
    return f"{int(off.sum())} of {got.numel()} values are wrong, the first at index {first if len(first) != 1 else first[0]}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
