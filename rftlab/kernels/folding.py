"""`tl.reduce` and `tl.associative_scan` with a combine function of the program's own, folded in another order than from left to right.

A GPU combines lanes in a tree, and a reduction takes them in any order. A combine function that is associative, and commutative in a
reduction, gives the same up to rounding; one that is not was right by luck in Triton's interpreter, and shows here. And of equal values the last is found, where any may be (`tie_break_left=False`).
"""

import numpy as np
import triton.language as tl
from triton.runtime import interpreter


def install() -> None:
    interpreter.ReduceOps.generic_reduce = reduce
    interpreter.ScanOps.generic_scan = scan
    interpreter.ReduceOps.apply_impl = last_of_equals(interpreter.ReduceOps.apply_impl)


def reduce(self, inputs):
    """Combine each lane of the second half with its like in the first, and so on. `inputs`: tensors of one shape, reduced together."""
    inputs, axis = self.unravel(inputs, self.axis)
    lanes = [np.moveaxis(tensor.handle.data, axis, 0) for tensor in inputs]
    types = [tensor.dtype for tensor in inputs]
    folded = [np.empty(lane.shape[1:], lane.dtype) for lane in lanes]
    for index in np.ndindex(lanes[0].shape[1:]):
        items = [tuple(lane[(i, *index)] for lane in lanes) for i in range(lanes[0].shape[0])]
        while len(items) > 1:
            half = len(items) // 2
            items = [_combine(self, b, a, types) for a, b in zip(items[:half], items[half:])] + items[2 * half :]
        for target, value in zip(folded, items[0]):
            target[index] = value
    results = []
    for data, dtype in zip(folded, types):
        if self.keep_dims and self.axis is None:
            data = data.reshape((1,) * len(inputs[0].shape))
        elif self.keep_dims:
            data = np.expand_dims(data, axis)
        elif self.axis is None or data.ndim == 0:
            data = data.item()
        results.append(self.to_tensor(data, dtype))
    return results


def last_of_equals(apply):
    fast = (tl.standard._argmin_combine_tie_break_fast, tl.standard._argmax_combine_tie_break_fast)

    def on_tensors(self, inputs):
        if self.combine_fn not in fast:
            return apply(self, inputs)
        data = inputs[0].handle.data
        value, index = apply(self, (self.to_tensor(np.flip(data, self.axis), inputs[0].dtype), *inputs[1:]))
        index.handle.data = (data.size if self.axis is None else data.shape[self.axis]) - 1 - index.handle.data
        return value, index

    return on_tensors


def scan(self, inputs):
    """Scan each half by itself, and combine the total of the first with every element of the second."""
    axis = self.axis
    lanes = [np.moveaxis(tensor.handle.data, axis, 0) for tensor in inputs]
    types = [tensor.dtype for tensor in inputs]
    scanned = [np.empty_like(lane) for lane in lanes]
    half = lanes[0].shape[0] // 2
    for index in np.ndindex(lanes[0].shape[1:]):
        items = [tuple(lane[(i, *index)] for lane in lanes) for i in range(lanes[0].shape[0])]
        for i in range(1, len(items)):
            if i != half:
                items[i] = _combine(self, items[i - 1], items[i], types)
        for i in range(half if half else len(items), len(items)):
            items[i] = _combine(self, items[half - 1], items[i], types)
        for i, item in enumerate(items):
            for target, value in zip(scanned, item):
                target[(i, *index)] = value
    return [self.to_tensor(np.ascontiguousarray(np.moveaxis(data, 0, axis)), dtype) for data, dtype in zip(scanned, types)]


def _combine(operation, left: tuple, right: tuple, types) -> tuple:
    """One call of the combine function on scalars."""
    arguments = [operation.to_tensor(value, dtype) for value, dtype in zip((*left, *right), (*types, *types))]
    result = operation.combine_fn(*arguments)
    parts = result if isinstance(result, (tuple, list, tl.tuple)) else (result,)
    return tuple(part.handle.data.item() if isinstance(part, tl.tensor) else part for part in parts)
