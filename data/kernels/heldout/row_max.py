"""The largest value of each row."""

FAMILY = "reduction"
SHAPES = [[(5, 37)], [(1, 1)], [(4, 16)], [(3, 70)]]


def row_max(x):
    return x.amax(dim=-1)
