"""The softmax of each row; without subtracting the row's maximum the large case overflows."""

import torch

FAMILY = "reduction"
SHAPES = [[(5, 37)], [(1, 1)], [(4, 16)], [(3, 70)]]
STRIDED = (0,)


def softmax(x):
    return torch.softmax(x, dim=-1)
