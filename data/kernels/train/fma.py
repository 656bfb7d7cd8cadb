"""Multiply and add: three inputs."""

FAMILY = "element-wise"
SHAPES = [[(190,), (190,), (190,)], [(1,), (1,), (1,)], [(3, 5, 11), (3, 5, 11), (3, 5, 11)], [(129,), (129,), (129,)]]


def fma(x, y, z):
    return x * y + z
