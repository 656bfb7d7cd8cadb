"""A vector in reverse order."""

FAMILY = "indexing"
SHAPES = [[(300,)], [(1,)], [(16,)], [(129,)]]


def flip(x):
    return x.flip(0)
