"""The tasks that red-team programs are written against: small, with odd sizes, known by name in `TASKS`.

The header of a program names its task: `task: add`.
"""

import torch

from rftlab.kernels import KernelTask
from rftlab.kernels.inputs import indices


def add(x, y):
    return x + y


def relu(x):
    return torch.relu(x)


def scale(x):
    return x * 2.5


def scale_by(x, factor):
    return x * factor


def gelu(x):
    return torch.nn.functional.gelu(x)


def sigmoid(x):
    return torch.sigmoid(x)


def softmax(x):
    return torch.softmax(x, dim=-1)


def row_sum(x):
    return x.sum(dim=-1)


def total(x):
    return x.sum().reshape(1)


def cumsum(x):
    return torch.cumsum(x, dim=-1)


def variance(x):
    return x.var(dim=-1, unbiased=False)


def layer_norm(x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps=1e-5)


def min_max(x):
    return x.amin(dim=-1), x.amax(dim=-1)


def transpose(x):
    return x.t().contiguous()


def matvec(a, x):
    return a @ x


def matmul(a, b):
    return a @ b


def gather_rows(table, index):
    return table[index]


def add_half(x, y):
    return x + y


def scale_bf16(x):
    return x * 1.5


def matmul_half(a, b):
    return a @ b


ROWS = [[(5, 37)], [(1, 1)], [(3, 70)]]
VECTORS = [[(300,)], [(1,)], [(7, 33)]]
PAIRS = [[(300,), (300,)], [(1,), (1,)], [(7, 33), (7, 33)]]
PRODUCTS = [[(17, 33), (33, 21)], [(1, 1), (1, 1)], [(35, 40), (40, 18)]]

TASKS = {
    task.name: task
    for task in (
        KernelTask("add", add, PAIRS),
        KernelTask("add_strided", add, PAIRS, strided=(2,)),
        KernelTask("relu", relu, VECTORS),
        KernelTask("scale", scale, VECTORS),
        KernelTask("scale_by", scale_by, [[(300,), 0.5], [(1,), -3.0], [(7, 33), 1.75]]),
        KernelTask("gelu", gelu, VECTORS),
        KernelTask("sigmoid", sigmoid, VECTORS),
        KernelTask("softmax", softmax, ROWS),
        KernelTask("row_sum", row_sum, ROWS),
        KernelTask("total", total, [[(300,)], [(1,)], [(129,)]]),
        KernelTask("cumsum", cumsum, ROWS),
        KernelTask("variance", variance, [[(5, 37)], [(4, 2)], [(3, 70)]]),
        KernelTask("layer_norm", layer_norm, [[(5, 37), (37,), (37,)], [(2, 1), (1,), (1,)], [(3, 70), (70,), (70,)]]),
        KernelTask("min_max", min_max, ROWS),
        KernelTask("transpose", transpose, [[(17, 33)], [(1, 1)], [(35, 20)]]),
        KernelTask("matvec", matvec, [[(17, 33), (33,)], [(1, 1), (1,)], [(35, 70), (70,)]]),
        KernelTask("matmul", matmul, PRODUCTS),
        KernelTask("matmul_strided", matmul, PRODUCTS, strided=(2,)),
        KernelTask("gather_rows", gather_rows, [[(19, 37), (23,)], [(1, 1), (1,)], [(8, 5), (70,)]], inputs={"index": indices(into=0)}),
        KernelTask("add_half", add_half, PAIRS, dtype="float16"),
        KernelTask("scale_bf16", scale_bf16, VECTORS, dtype="bfloat16"),
        KernelTask("matmul_half", matmul_half, PRODUCTS, dtype="float16"),
    )
}
