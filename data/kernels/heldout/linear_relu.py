"""A matrix product, a bias per column, and relu: one layer of a network."""

import torch

FAMILY = "matrix"
SHAPES = [[(17, 33), (33, 17), (17,)], [(1, 1), (1, 1), (1,)], [(20, 35), (35, 18), (18,)]]


def linear_relu(a, b, bias):
    return torch.relu(a @ b + bias)
