"""The sum of two tensors: the deck's example."""

FAMILY = "element-wise"
SHAPES = [[(300,), (300,)], [(1,), (1,)], [(7, 33), (7, 33)], [(129,), (129,)]]
STRIDED = (2,)


def add(x, y):
    return x + y
