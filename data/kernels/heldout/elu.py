"""Exponential below zero, identity above."""

import torch

FAMILY = "activation"
SHAPES = [[(300,)], [(1,)], [(7, 33)], [(129,)]]


def elu(x):
    return torch.nn.functional.elu(x)
