"""The elements of a vector that an index names."""

from rftlab.kernels.inputs import indices

FAMILY = "indexing"
SHAPES = [[(100,), (129,)], [(1,), (1,)], [(300,), (77,)]]
INPUTS = {"index": indices(into=0)}


def take(x, index):
    return x[index]
