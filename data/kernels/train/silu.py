"""x times its logistic function, also called swish."""

import torch

FAMILY = "activation"
SHAPES = [[(190,)], [(1,)], [(3, 5, 11)], [(129,)]]
STRIDED = (2,)


def silu(x):
    return x * torch.sigmoid(x)
