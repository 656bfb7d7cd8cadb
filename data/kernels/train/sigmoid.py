"""The logistic function."""

import torch

FAMILY = "activation"
SHAPES = [[(257,)], [(1,)], [(5, 41)], [(150,)]]


def sigmoid(x):
    return torch.sigmoid(x)
