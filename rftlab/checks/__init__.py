"""Checks for the exercises: one file per notebook, one function per exercise, all used alike.

    from rftlab.checks import rl_basics
    rl_basics.kl_optimum(kl_optimum)        # the reader's function (or the reader's number)

prints "passed: kl_optimum", or "not attempted: kl_optimum" as long as the stub is untouched (so that Run All stays
green), and raises AssertionError with what was expected, what came, and a hint when the answer is wrong.
"""

import dis
import functools
from collections.abc import Callable

import torch


def exercise(check: Callable) -> Callable:
    """Turn `check(answer)`, which raises AssertionError on a wrong answer, into a check for the notebooks.

    "Not attempted" means: the answer is None or `...`, or the stub's own `raise NotImplementedError` was reached.
    Any other error of the reader's code passes through with its traceback.
    """
    name = check.__name__

    @functools.wraps(check)
    def checked(answer) -> None:
        try:
            if answer is None or answer is ...:
                raise NotImplementedError
            check(answer)
        except NotImplementedError as error:
            if not _raised_in_python(error):
                raise
            print(f"not attempted: {name}")
        else:
            print(f"passed: {name}")

    return checked


def expect_close(got, expected, *, case: str, hint: str, slips: tuple = (), atol: float = 1e-6) -> None:
    """Raise AssertionError unless `got` (number, list or tensor) equals `expected` in shape and within `atol`.

    `case` says in words what was computed, for example "rewards (1, 0, 0, 1)"; `hint` says where to look.
    `slips` holds pairs (wrong value, hint) of likely mistakes: who gets such a value is told that hint instead.
    """
    answer, expected = _as_tensor(got), _as_tensor(expected)
    if got is None:
        problem = "nothing came (is a `return` missing?)"
    elif answer is None:
        problem = "this is neither a number nor a tensor"
    elif answer.shape != expected.shape:
        problem = f"the shape is {tuple(answer.shape)} and not {tuple(expected.shape)}"
    elif not torch.allclose(answer, expected, rtol=0.0, atol=atol):
        problem = "the numbers differ"
        for wrong, its_hint in slips:
            hint = its_hint if torch.allclose(answer, _as_tensor(wrong), rtol=0.0, atol=atol) else hint
    else:
        return
    raise AssertionError(f"{case}: {problem}\n  expected {_short(expected)}\n  got      {_short(got)}\n  hint: {hint}")


def _as_tensor(value) -> torch.Tensor | None:
    try:
        return torch.as_tensor(value).detach().double()
    except (TypeError, ValueError, RuntimeError):
        return None


def _short(value) -> str:
    """Numbers to 6 significant digits, anything else as Python shows it."""
    if isinstance(value, torch.Tensor):
        value = value.detach().double().tolist()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_short(item) for item in value)}]"
    return repr(value)


def _raised_in_python(error: NotImplementedError) -> bool:
    """Whether a `raise` statement raised it: torch raises the same type for, say, a softmax of integers."""
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    return last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
