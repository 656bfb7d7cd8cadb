"""What a kernel task must be before anything can be graded by it. Each check says what to change.

Refused: no shapes, cases of different length, sizes below 1, shapes that do not fit the reference's parameters, a
lambda without `entry`, an unknown or complex dtype, and a reference that raises, returns something other than
tensors, returns nothing finite, is random, or does not use the values of an input.
"""

import inspect
import keyword
import warnings
from collections.abc import Callable

import torch

from rftlab.kernels.inputs import KINDS

DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
LARGE = (100.0, 10.0)  # factors of a large-magnitude case, tried in this order
PROBES = 3  # draws per question that is asked of the reference


def dtype_name(dtype) -> str:
    """"float32" for "float32" and for torch.float32; ValueError for what kernels cannot be graded in."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)} (complex numbers do not exist in Triton)")
    return name


def entry_name(entry: str | None, reference: Callable) -> str:
    """The name that a completion must define."""
    if not callable(reference):
        raise ValueError(f"reference must be a function on tensors, got {type(reference).__name__}")
    name = entry or getattr(reference, "__name__", "")
    if name == "<lambda>" or not name:
        raise ValueError("the reference has no name of its own (a lambda?): say which function a completion must define, entry='...'")
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
        raise ValueError(f"entry={name!r} is not a name that a Python function can have")
    return name


def clean_shapes(shapes: list, name: str) -> list:
    """The shapes as lists of tuples and plain numbers. ValueError when they are none, ragged, or have a size below 1."""
    if not isinstance(shapes, (list, tuple)) or not shapes:
        raise ValueError(f"task {name!r} needs test cases: shapes=[[(300,), (300,)], [(7, 33), (7, 33)]] is two cases of a function of two tensors")
    cleaned = [_clean_case(case, number, name) for number, case in enumerate(shapes)]
    for number, case in enumerate(cleaned):
        if len(case) != len(cleaned[0]) or any(isinstance(a, tuple) != isinstance(b, tuple) for a, b in zip(case, cleaned[0])):
            raise ValueError(f"task {name!r}: case {number} is {case}, but case 0 is {cleaned[0]}; all cases need the same parameters")
    return cleaned


def _clean_case(case, number: int, name: str) -> list:
    if not isinstance(case, (list, tuple)) or not case:
        raise ValueError(f"task {name!r}: case {number} is {case!r}, expected a list with one shape tuple per parameter, like [(300,), (300,)]")
    cleaned = []
    for shape in case:
        if isinstance(shape, (int, float)):
            if isinstance(case, tuple):
                raise ValueError(f"task {name!r}: case {number} is {case!r}, a single shape; write one list per case: [[{case!r}]]")
            cleaned.append(shape)
        elif isinstance(shape, (list, tuple)) and all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
            if any(size < 1 for size in shape):
                raise ValueError(f"task {name!r}: case {number} has the shape {tuple(shape)}; sizes must be at least 1, since an empty answer is always right")
            cleaned.append(tuple(shape))
        else:
            raise ValueError(f"task {name!r}: case {number} holds {shape!r}, expected a shape such as (7, 33), or a number")
    if not any(isinstance(shape, tuple) for shape in cleaned):
        raise ValueError(f"task {name!r}: case {number} {cleaned} has no tensor")
    return cleaned


def parameter_names(reference: Callable, shapes: list, name: str) -> tuple[str, ...]:
    """One name per argument of a case. ValueError when the reference cannot be called with that many."""
    count = len(shapes[0])
    generic = ("x", "y", "z", "w")[:count] if count <= 4 else tuple(f"x{i}" for i in range(count))
    try:
        signature = inspect.signature(reference)
    except (ValueError, TypeError):  # a function written in C, such as torch.relu, hides its parameters
        return generic
    try:
        signature.bind(*shapes[0])
    except TypeError as error:
        wanted = ", ".join(map(str, signature.parameters.values()))
        raise ValueError(
            f"task {name!r}: the cases have {count} arguments, but the reference takes ({wanted}): {error}; "
            "give one shape per parameter"
        ) from None
    positional = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(positional[:count]) if len(positional) >= count else generic


def check_options(task) -> None:
    """Check `inputs`, `scales` and `strided`, and choose the scales when there are none."""
    for parameter, kind in task.inputs.items():
        if parameter not in task.parameters:
            raise ValueError(f"task {task.name!r}: inputs has {parameter!r}, but the parameters are {', '.join(task.parameters)}")
        if not callable(kind) and kind not in KINDS:
            raise ValueError(f"task {task.name!r}: inputs[{parameter!r}]={kind!r}; expected a function or one of {', '.join(KINDS)}")
    if any(index not in range(len(task.shapes)) for index in task.strided):
        raise ValueError(f"task {task.name!r}: strided={task.strided}, but the cases are 0 to {len(task.shapes) - 1}")
    if task.scales is None:
        object.__setattr__(task, "scales", choose_scales(task))
    elif len(task.scales) != len(task.shapes):
        raise ValueError(f"task {task.name!r}: {len(task.scales)} scales for {len(task.shapes)} cases; give one factor per case")


def choose_scales(task) -> tuple[float, ...]:
    """1 for each case, and for the last of several the largest of `LARGE` that leaves the answers finite.

    A quarter of that case's elements grow by the factor, enough to overflow a softmax that forgot the maximum.
    """
    plain = (1.0,) * len(task.shapes)
    if len(task.shapes) == 1:
        return plain
    last = len(task.shapes) - 1
    for factor in LARGE:
        generator = torch.Generator().manual_seed(0)
        answers = [call(task, task.draw(last, generator, factor))[0] for _ in range(PROBES)]
        if all(is_finite(tensor) for answer in answers for tensor in answer):
            return plain[:-1] + (factor,)
    return plain


def check_reference(task) -> None:
    """Call the reference on every case and see that its answers can be graded."""
    used = {name: False for name, shape in zip(task.parameters, task.shapes[0]) if isinstance(shape, tuple)}
    for index in range(len(task.shapes)):
        case = task.make_case(index, seed=0)
        again, _ = call(task, case.inputs)
        if not all(torch.equal(a, b) for a, b in zip(again, case.expected)):
            raise ValueError(f"task {task.name!r}: the reference gives another answer each time; take the randomness out of it")
        other = task.make_case(index, seed=1)
        for position, name in enumerate(task.parameters):
            if name not in used or used[name]:
                continue
            mixed = [*case.inputs[:position], other.inputs[position], *case.inputs[position + 1 :]]
            answer, _ = call(task, mixed)
            used[name] = not all(torch.equal(a, b) for a, b in zip(answer, case.expected))
    unused = [name for name, seen in used.items() if not seen]
    if unused:
        raise ValueError(
            f"task {task.name!r}: the reference's answer does not depend on the values of {', '.join(unused)}: a kernel that "
            "never reads it would be right; drop the parameter, or use shapes and inputs for which it matters"
        )


def call(task, inputs: list) -> tuple[tuple[torch.Tensor, ...], bool]:
    """The reference's answer to copies of the inputs, as (contiguous tensors, whether it returned several).

    Raises ValueError when the reference raises or returns something that is not a tensor of at least one element.
    """
    copies = [i.clone() if torch.is_tensor(i) else i for i in inputs]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = task.reference(*copies)
    except Exception as error:
        shown = [tuple(i.shape) if torch.is_tensor(i) else i for i in inputs]
        raise ValueError(f"task {task.name!r}: the reference raised {type(error).__name__} on {shown}: {error}") from error
    several = isinstance(result, (tuple, list))
    answers = tuple(result) if several else (result,)
    for answer in answers or (None,):
        _check_answer(answer, task.name)
    return tuple(answer.detach().contiguous() for answer in answers), several


def _check_answer(answer, name: str) -> None:
    if not isinstance(answer, torch.Tensor):
        raise ValueError(f"task {name!r}: the reference returned {type(answer).__name__}, expected a tensor or a tuple of tensors")
    if answer.device.type != "cpu" or answer.layout != torch.strided or answer.is_quantized:
        raise ValueError(f"task {name!r}: the reference returned a {answer.layout} tensor on {answer.device}, expected a dense one on the CPU")
    if str(answer.dtype).removeprefix("torch.") not in DTYPES:
        raise ValueError(f"task {name!r}: the reference returned {answer.dtype}; expected one of {', '.join(DTYPES)}")
    if answer.numel() == 0:
        raise ValueError(f"task {name!r}: the reference returned an empty tensor of shape {tuple(answer.shape)}; an empty answer is always right")


def default_kind(dtype: str) -> str:
    """How values are drawn when the task does not say."""
    if dtype == "bool":
        return "booleans"
    return "normal" if getattr(torch, dtype).is_floating_point else "integers"


def is_finite(tensor: torch.Tensor) -> bool:
    """True when no element is nan or infinite."""
    return bool(torch.isfinite(tensor).all())
