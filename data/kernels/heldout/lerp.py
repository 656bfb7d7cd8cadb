"""A third of the way from x to y."""

FAMILY = "element-wise"
SHAPES = [[(300,), (300,), 0.3], [(1,), (1,), 0.7], [(7, 33), (7, 33), -0.4], [(129,), (129,), 0.25]]


def lerp(x, y, weight):
    return x + weight * (y - x)
