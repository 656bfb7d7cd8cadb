"""Each row divided by its root mean square, times a weight: Llama's normalisation."""

import torch

FAMILY = "reduction"
SHAPES = [[(5, 37), (37,)], [(1, 1), (1,)], [(4, 16), (16,)], [(3, 70), (70,)]]


def rms_norm(x, weight):
    return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + 1e-2) * weight
