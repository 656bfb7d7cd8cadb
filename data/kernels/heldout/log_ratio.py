"""The logarithm of a quotient of positive tensors."""

import torch

FAMILY = "element-wise"
SHAPES = [[(190,), (190,)], [(1,), (1,)], [(3, 5, 11), (3, 5, 11)], [(129,), (129,)]]
INPUTS = {"x": "positive", "y": "positive"}


def log_ratio(x, y):
    return torch.log(x / y)
