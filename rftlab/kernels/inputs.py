"""Inputs of kernel tasks, drawn from a seed: plain, of large magnitude, of one sign, indices, and tensors that are not contiguous.

A maker is `maker(generator, shapes, position, scale) -> tensor`: it fills parameter `position` of a case whose
parameters have these shapes. A float64 result is cast to the task's dtype, any other keeps its own.
`KernelTask(inputs={"x": "positive"})` names one of `KINDS` or gives a maker.
"""

from collections.abc import Callable

import torch

LARGE_SHARE = 0.25  # of the elements of a large-magnitude case, or of its first row; the others keep their size, to stay under test too
INTEGER_BOUND = 100

Maker = Callable[[torch.Generator, list, int, float], torch.Tensor]


def normal(generator: torch.Generator, shapes: list, position: int, scale: float) -> torch.Tensor:
    """Standard normal values, enlarged by `scale` (see `_enlarge`); most rows of several are of one sign: see `one_sign`."""
    values = torch.randn(shapes[position], generator=generator, dtype=torch.float64)
    return _enlarge(one_sign(values, position), scale, generator)


def one_sign(values: torch.Tensor, position: int) -> torch.Tensor:
    """The values with signs by row (last dimension): the first row keeps its own, the next are all positive, all negative, and so on.

    A maximum that pads its row by 0 is wrong only where all of the row is negative, which 37 values drawn at random never are. So the first
    parameter's row 1 lies above 1 and its row 2 below -3: 1.0 - x and x + 3.0 are negative along one of them (3.0 - x is not, but
    exp(exp(x)) stays finite). From row 3 on the signs of the parameters differ, for x * y.
    """
    if values.dim() < 2 or not values.numel():
        return values
    own = values.reshape(-1, values.shape[-1])
    row = torch.arange(len(own))[:, None]
    turn, second = (row - 1) // 2, (row - 1) % 2
    sign = 1.0 - 2.0 * ((turn >> position & 1) ^ second)
    further = (1.0 * (row == 1) + 3.0 * (row == 2)) * (position == 0)
    return torch.where(row > 0, sign * (own.abs() + further), own).reshape(values.shape)


def positive(generator: torch.Generator, shapes: list, position: int, scale: float) -> torch.Tensor:
    """Values from 0.1 to 3, enlarged by `scale` (see `_enlarge`): for logarithms, roots and divisors."""
    values = 0.1 + 2.9 * torch.rand(shapes[position], generator=generator, dtype=torch.float64)
    return _enlarge(values, scale, generator)


def integers(generator: torch.Generator, shapes: list, position: int, scale: float) -> torch.Tensor:
    """Whole numbers from -100 to 100; the scale is not used."""
    return torch.randint(-INTEGER_BOUND, INTEGER_BOUND + 1, shapes[position], generator=generator).double()


def booleans(generator: torch.Generator, shapes: list, position: int, scale: float) -> torch.Tensor:
    """True or False, whatever the task's dtype; the scale is not used."""
    return torch.randint(0, 2, shapes[position], generator=generator).bool()


def indices(into: int = 0, dim: int = 0) -> Maker:
    """A maker of indices along dimension `dim` of parameter `into`: whole numbers from 0 to its size - 1."""

    def make(generator: torch.Generator, shapes: list, position: int, scale: float) -> torch.Tensor:
        return torch.randint(0, shapes[into][dim], shapes[position], generator=generator)

    return make


KINDS: dict[str, Maker] = {"normal": normal, "positive": positive, "integers": integers, "booleans": booleans}


def spread_out(tensor: torch.Tensor, gaps: bool = False) -> torch.Tensor:
    """The same values in a tensor that is not contiguous: transposed storage, or with `gaps` every second element.

    What cannot be transposed gets gaps. In them lie other values, since a kernel that adds up zeros would be right: 3 v + 1 beside
    a float v, the opposite of a boolean, and a neighbour's value beside an integer, so that indices stay inside. A tensor of fewer
    than two elements is contiguous whatever its strides, and comes back as it is.
    """
    if tensor.numel() < 2:
        return tensor
    if not gaps and tensor.dim() >= 2 and not tensor.transpose(-1, -2).is_contiguous():
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    other = 3 * tensor + 1 if tensor.is_floating_point() else ~tensor if tensor.dtype == torch.bool else tensor.flatten().roll(1).view(tensor.shape)
    return torch.stack([tensor, other], -1).flatten(-2)[..., ::2]


def nudge(tensor: torch.Tensor, generator: torch.Generator, steps: int = 1) -> torch.Tensor:
    """The tensor with each value moved by at most so many rounding steps of its dtype; integers and booleans unchanged."""
    if not tensor.is_floating_point():
        return tensor
    step = steps * torch.finfo(tensor.dtype).eps * (2 * torch.randint(0, 2, tensor.shape, generator=generator) - 1)
    return (tensor.double() * (1 + step)).to(tensor.dtype)


def _enlarge(values: torch.Tensor, scale: float, generator: torch.Generator) -> torch.Tensor:
    """The values with a quarter of the first row, or of all without rows, multiplied by `scale`, and all of the other rows.

    A maximum of 3 - x that pads by 0 is wrong only where all of the row is negative; a softmax that pads so, where all of it is far below.
    """
    if scale == 1:
        return values
    large = torch.rand(values.shape, generator=generator) < LARGE_SHARE
    if values.dim() >= 2 and values.numel():
        large.view(-1, values.shape[-1])[1:] = True
    return torch.where(large, values * scale, values)
