"""A scaled and shifted bfloat16 tensor."""

FAMILY = "element-wise"
SHAPES = [[(190,)], [(1,)], [(3, 5, 11)], [(129,)]]
DTYPE = "bfloat16"


def affine_bf16(x):
    return x * 1.5 + 0.25
