"""The logarithm of the softmax of each row."""

import torch

FAMILY = "reduction"
SHAPES = [[(5, 37)], [(1, 1)], [(4, 16)], [(3, 70)]]


def log_softmax(x):
    return torch.log_softmax(x, dim=-1)
