"""A reward function in TRL's signature, looked at: whether it can be called, and whether it says one number a completion.

What it says is trained on, so that nothing is guessed: no text that looks like a number, and no NaN where None was meant.
"""
import dataclasses
import functools
import inspect

from rftlab.own_task import finite, own_line
from rftlab.rewards import Combined, _name

FORM = "expected f(prompts, completions, **columns) -> one number each, None where it cannot tell"
ONE_BY_ONE = "; a function of (completion, problem) becomes such a one by rewards.verifier(own_task.own_task(problems, function))"


def checked(function):
    """The same function, `async` or not, that raises a ValueError naming it where it fails or says something else than FORM.

    Of a combined reward each part is looked at, so that the error names the part. Raises ValueError at once for what cannot be
    called with the columns that a training loop passes.
    """
    name = _name(function)
    _callable_so(function, name)
    if isinstance(function, Combined):
        function = dataclasses.replace(function, functions={part: _part(fn, part) for part, fn in function.functions.items()})
    if is_async(function):
        @functools.wraps(function, assigned=())
        async def looked_at(prompts, completions, **columns):
            try:
                said = await function(prompts=prompts, completions=completions, **columns)
            except Exception as error:
                raise _failure(function, name, error) from error
            return numbers(said, len(completions), name)
    else:
        @functools.wraps(function, assigned=())
        def looked_at(prompts, completions, **columns):
            try:
                said = function(prompts=prompts, completions=completions, **columns)
            except Exception as error:
                raise _failure(function, name, error) from error
            return numbers(said, len(completions), name)
    looked_at.__name__ = name
    return looked_at


def _part(function, name):
    if is_async(function):
        raise ValueError(f"the part {name!r} of a combined reward is `async`, for which nobody waits there; give it beside the combined one, "
                         "as TRL's trainer takes several (rftlab.hub_training.grpo_trainer)")
    return checked(function)


def is_async(function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))


def numbers(said, count, name) -> list[float | None]:
    """What a reward function returned as `count` finite numbers or None. Raises ValueError for anything else."""
    try:
        listed = len(said) >= 0 and not isinstance(said, (str, bytes, dict, set, frozenset))
    except TypeError:  # a number, or a tensor or an array of one: they have a __len__ that raises
        listed = False
    if not listed:
        why = ", which has no order," if isinstance(said, (set, frozenset)) else ""
        raise ValueError(f"the reward function {name!r} returned {said!r:.60}{why} for {count} completions; {FORM}")
    if len(said) != count:
        raise ValueError(f"the reward function {name!r} returned {len(said)} rewards for {count} completions; expected one each")
    return [None if one is None else _number(one, i, name) for i, one in enumerate(said)]


def _number(one, i, name) -> float:
    value = finite(one)
    if value is None:
        raise ValueError(f"the reward function {name!r} returned {one!r:.60} for completion {i}; expected a finite number, or None where it cannot tell")
    return value


def _callable_so(function, name) -> None:
    if not callable(function):
        raise ValueError(f"the reward function is {function!r:.60}; {FORM}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # one in C
        return
    try:
        # What rftlab.grpo passes; TRL has no `step`, and more of its own. Columns of your own may be asked for.
        signature.bind_partial(prompts=[], completions=[], completion_ids=[], problem=[], answer=[], step=0, log_metric=print)
    except TypeError as error:
        raise ValueError(f"the reward function {name}{signature} cannot be called by a training loop ({error}); {FORM}"
                         + (ONE_BY_ONE if len(signature.parameters) == 2 else "")) from error


def _failure(function, name, error) -> Exception:
    """The error as the reader needs it: those of this package say it all themselves."""
    if isinstance(error, ValueError) and str(getattr(function, "__module__", "")).startswith("rftlab"):
        return error
    return ValueError(f"the reward function {name!r} failed with {type(error).__name__}: {error}{own_line(error, function)}; a policy may write anything, so return "
                      "a number for every string, or None where it cannot tell")
