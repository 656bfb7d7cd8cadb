"""Values cut off below -0.5 and above 1.5."""

import torch

FAMILY = "element-wise"
SHAPES = [[(190,)], [(1,)], [(3, 5, 11)], [(129,)]]


def clamp(x):
    return torch.clamp(x, -0.5, 1.5)
