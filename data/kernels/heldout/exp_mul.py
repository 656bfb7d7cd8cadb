"""The exponential of x, times y."""

import torch

FAMILY = "element-wise"
SHAPES = [[(257,), (257,)], [(1,), (1,)], [(5, 41), (5, 41)], [(150,), (150,)]]


def exp_mul(x, y):
    return torch.exp(x) * y
