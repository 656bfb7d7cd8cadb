"""Is a task hard to fool? Wrong answers that cost nothing must not pass, and its cases must look where kernels break.

The list of impostors follows the filters of robust-kbench (Sakana AI 2025) and METR's audit of KernelBench (2025), which
dropped 45 tasks whose answers were near zero, uniform or constant. `mutation` goes further, for tasks with a known kernel.
"""

from collections.abc import Callable, Iterator

import torch

from rftlab.kernels.compare import mismatch
from rftlab.kernels.task_checks import call
from rftlab.kernels.tasks import Case, KernelTask

SEEDS = (11, 12)
SPREAD = 0.01  # least standard deviation of the answers, as a share of their mean size: tolerances are relative, too
LOOSE = 0.02  # a tolerance above this share of the answer means that the reference loses its digits by itself
ROUNDER = {torch.float64: torch.float32, torch.float32: torch.float16}


def lint(task: KernelTask) -> list[str]:
    """What is wrong with a task, in words; an empty list for a sound one.

    >>> lint(KernelTask("add", lambda x, y: x + y, [[(300,), (300,)]], entry="add"))
    ['no case is of size 1 ...', 'no case has large magnitudes ...']
    """
    found = [*_impostors_that_pass(task), *_ignored(task), *_answers(task), *_coverage(task)]
    return list(dict.fromkeys(found))


def fooled(task: KernelTask, impostor: Callable[[Case, Case], tuple | None], seed: int) -> bool:
    """True when the impostor's answers pass every case. It gets the case and the case before, and may decline with None."""
    cases = [task.make_case(index, seed) for index in range(len(task.shapes))]
    for index, case in enumerate(cases):
        answers = impostor(case, cases[index - 1])
        if answers is None or any(map(mismatch, answers, case.expected, case.tolerances)):
            return False
    return True


def _impostors_that_pass(task: KernelTask) -> Iterator[str]:
    for words, impostor in _impostors(task):
        if any(fooled(task, impostor, seed) for seed in SEEDS):
            yield f"{words} would pass every case: choose other shapes or inputs"


def _impostors(task: KernelTask) -> Iterator[tuple[str, Callable]]:
    yield "zeros", lambda case, before: tuple(torch.zeros_like(e) for e in case.expected)
    yield "ones", lambda case, before: tuple(torch.ones_like(e) for e in case.expected)
    if any(e.numel() > 1 for index in range(len(task.shapes)) for e in task.make_case(index, SEEDS[0]).expected):
        yield "the mean of the right values everywhere", lambda case, before: tuple(map(_mean, case.expected))
        yield "the right values in another order", lambda case, before: tuple(map(_shuffled, case.expected))
    for position, name in enumerate(task.parameters):
        if isinstance(task.shapes[0][position], tuple):
            yield f"a copy of {name}", lambda case, before, at=position: tuple(_poured(case.inputs[at], e) for e in case.expected)
    if len(task.shapes) > 1:
        yield "the answer to the previous case", lambda case, before: tuple(map(_poured, before.expected, case.expected))
    yield "the right values rounded to fewer digits", lambda case, before: _rounded(case)


def _ignored(task: KernelTask) -> Iterator[str]:
    """Each input must matter; `task_checks` has seen to the tensors, here the numbers are changed too."""
    for position, name in enumerate(task.parameters):
        if isinstance(task.shapes[0][position], tuple):
            continue
        if all(_same_with(task, index, position) for index in range(len(task.shapes))):
            yield f"the answer does not depend on {name}: a kernel that has its value built in passes"


def _same_with(task: KernelTask, index: int, position: int) -> bool:
    case = task.make_case(index, SEEDS[0])
    inputs = list(case.inputs)
    inputs[position] = inputs[position] + 1 if isinstance(inputs[position], int) else inputs[position] * 1.5 + 0.25
    try:
        answers, _ = call(task, inputs)
    except ValueError:  # the number decides about the shape, for example: so it matters
        return False
    return not any(map(mismatch, answers, case.expected, case.tolerances))


def _answers(task: KernelTask) -> Iterator[str]:
    for index in range(len(task.shapes)):
        case = task.make_case(index, SEEDS[0])
        for expected, allowed in zip(case.expected, case.tolerances):
            values = expected.double()
            if values.numel() > 1 and values.std() <= SPREAD * values.abs().mean():
                yield f"the answers of case {index} are all but equal (they vary by less than {SPREAD:.0%}): a constant is nearly right"
            sizes = values.abs()
            large = sizes >= sizes[sizes > 0].median() if values.any() else sizes > 0
            if expected.dtype in ROUNDER and large.any() and (share := (allowed[large] / sizes[large]).median()) > LOOSE:
                yield f"the reference itself loses its digits in case {index} (sure to {share:.0%} only): make its inputs milder"


def _coverage(task: KernelTask) -> Iterator[str]:
    shapes = [[shape for shape in case if isinstance(shape, tuple)] for case in task.shapes]
    if not any(size > 1 and size % 16 for case in shapes for shape in case for size in shape):
        yield "all sizes are multiples of 16: a kernel without masks passes; add an odd size such as 37"
    if not any(all(size == 1 for shape in case for size in shape) for case in shapes):
        yield "no case is of size 1, where kernels trip over strides and empty grids; add one"
    if all(scale <= 1 for scale in task.scales):
        yield "no case has large magnitudes, where unstable kernels overflow; give two or more cases, or scales="
    if len(task.shapes) > 1 and len({str(case) for case in task.shapes}) == 1:
        yield "all cases have the same shapes: a kernel with these sizes built in passes"


def _mean(expected: torch.Tensor) -> torch.Tensor:
    return torch.full_like(expected, float(expected.double().mean())) if expected.is_floating_point() else torch.zeros_like(expected)


def _shuffled(expected: torch.Tensor) -> torch.Tensor:
    """Rolled by one, so that no element of several keeps its place."""
    return expected.flatten().roll(1).reshape(expected.shape)


def _poured(values: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """The values in the shape and dtype of the answer, from the start again when there are too few."""
    flat = values.flatten()
    times = -(-expected.numel() // flat.numel())
    return flat.repeat(times)[: expected.numel()].reshape(expected.shape).to(expected.dtype)


def _rounded(case: Case) -> tuple | None:
    """Through a float type of half the size; declines for whole numbers and for the half types themselves."""
    if not all(expected.dtype in ROUNDER for expected in case.expected):
        return None
    return tuple(expected.to(ROUNDER[expected.dtype]).to(expected.dtype) for expected in case.expected)
