"""The rows of a table that an index names: an embedding look-up."""

from rftlab.kernels.inputs import indices

FAMILY = "indexing"
SHAPES = [[(19, 37), (23,)], [(1, 1), (1,)], [(8, 5), (41,)]]
INPUTS = {"index": indices(into=0)}


def gather_rows(table, index):
    return table[index]
