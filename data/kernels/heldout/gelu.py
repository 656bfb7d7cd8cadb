"""x times the normal distribution function of x."""

import torch

FAMILY = "activation"
SHAPES = [[(190,)], [(1,)], [(3, 5, 11)], [(129,)]]
STRIDED = (2,)


def gelu(x):
    return torch.nn.functional.gelu(x)
