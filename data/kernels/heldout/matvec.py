"""A matrix times a vector."""

FAMILY = "matrix"
SHAPES = [[(17, 33), (33,)], [(1, 1), (1,)], [(8, 16), (16,)], [(9, 70), (70,)]]
STRIDED = (2,)


def matvec(a, x):
    return a @ x
