"""A function of the reader's own as a kernel task: the signature and the wrapper come from `functions`, the kernel from a model."""
import torch

from rftlab.kernels import functions
from rftlab.kernels.tasks import KernelTask


def own(source: str) -> KernelTask:
    """The task of `def fused(x, y): return ...`, one to three tensors of one shape, for `KernelWriting.problem` in both forms.

    One value for each element, or one for each row (as `.sum(dim=-1)` gives). What stands where the kernel's body belongs only
    holds its place. Raises ValueError for a text that defines no such function, or one that cannot be graded.
    """
    try:
        function = functions._compiled(source)
    except KeyError:
        raise ValueError(f"the text defines no function {functions.ENTRY!r}: begin it with `def {functions.ENTRY}(x, y):`") from None
    names = function.__code__.co_varnames[:function.__code__.co_argcount]
    rows = _one_for_each_row(function, len(names))
    pieces = {"pointers": ", ".join(f"{n}_ptr" for n in names), "names": ", ".join(names), "arguments": ", ".join(names), "first": names[0]}
    if rows:
        kernel = functions.ROW_KERNEL.format(loads=f"    {names[0]} = 0.0", value=names[0], padding="0.0", reduced="value", **pieces)
    else:
        kernel = functions.KERNEL.format(loads=f"    {names[0]} = 0.0", value=names[0], **pieces)
    return functions.task(source, kernel, "reduction" if rows else "element-wise")


def _one_for_each_row(function, parameters: int) -> bool:
    if not 1 <= parameters <= 3:
        raise ValueError(f"the function takes {parameters} tensors, expected one to three")
    try:
        shape = tuple(function(*[torch.ones(4, 8) for _ in range(parameters)]).shape)
    except Exception as error:
        raise ValueError(f"the function fails on tensors of 4 x 8: {type(error).__name__}: {error}") from error
    if shape not in ((4, 8), (4,)):
        raise ValueError(f"for tensors of 4 x 8 the result has the shape {shape}; expected (4, 8), or (4,) for one value a row")
    return shape == (4,)
