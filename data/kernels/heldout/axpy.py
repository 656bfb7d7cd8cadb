"""A tensor doubled, plus another."""

FAMILY = "element-wise"
SHAPES = [[(190,), (190,)], [(1,), (1,)], [(3, 5, 11), (3, 5, 11)], [(129,), (129,)]]


def axpy(x, y):
    return 2.0 * x + y
