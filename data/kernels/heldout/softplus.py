"""A smooth relu; the plain formula overflows for large x."""

import torch

FAMILY = "activation"
SHAPES = [[(257,)], [(1,)], [(5, 41)], [(150,)]]


def softplus(x):
    return torch.nn.functional.softplus(x)
