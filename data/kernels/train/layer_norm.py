"""Each row brought to mean 0 and variance 1, then scaled and shifted."""

import torch

FAMILY = "reduction"
SHAPES = [[(5, 37), (37,), (37,)], [(4, 3), (3,), (3,)], [(1, 1), (1,), (1,)], [(3, 70), (70,), (70,)]]


def layer_norm(x, weight, bias):
    return torch.nn.functional.layer_norm(x, (x.shape[-1],), weight, bias, eps=1e-2)
