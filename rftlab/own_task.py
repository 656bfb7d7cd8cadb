"""Your own examples and your own reward as a task, so that everything that trains and measures the course's tasks does yours.

    def right(completion, problem):
        return float(problem.answer in completion)

    task = own_task(data.load("mine.jsonl").usable().problems, right)
    task.train(16), task.test(4), task.reward("5", task.test(1)[0])
"""
import hashlib
import inspect
import math
import random
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rftlab.tasks import Problem

# What policies really write, sooner or later. A reward function meets all of it in its first hour.
ODD_COMPLETIONS = ("", " ", "\n", "0", "-", ".", "1" * 5000, "9" * 400 + "/0", "(" * 2000, "<answer></answer>", "</answer><answer>",
                   "\x00", "\ud7ff\u0661\U0001f600", "null", "nan", "inf", "```python\n", "{'a': ", "1e999999", "5 " * 2000)


@dataclass(frozen=True, repr=False)
class OwnTask:
    """A task made of examples. `verify(completion, problem)` is your reward; a problem has .prompt, .answer, .solution, .info."""

    name: str
    verify: Callable
    train_problems: tuple
    test_problems: tuple

    def __post_init__(self):
        _fits(self.verify)

    def __repr__(self):
        """As it stands in a record: without the problems, of which a run keeps a digest, and without an address."""
        from rftlab.loop import named

        return f"OwnTask({self.name!r}, {named(self.verify)})"

    def train(self, n: int | None = None, seed: int = 0) -> list[Problem]:
        """n training problems in an order that `seed` draws, all by default; a smaller n with the same seed gives the first of them."""
        order = list(self.train_problems)
        random.Random(f"own {seed}").shuffle(order)
        return _first(order, n, "training")

    def validation(self, n: int) -> list[Problem]:
        """None: few examples are not divided in three. ValueError for n above 0."""
        return _first([], n, "validation")

    def test(self, n: int | None = None) -> list[Problem]:
        """The first n held-out problems, all by default."""
        return _first(list(self.test_problems), n, "test")

    def reward(self, completion: str, problem: Problem) -> float:
        """What `verify` says, as a number. Raises ValueError, naming the completion, where it fails or says no number."""
        try:
            said = self.verify(completion, problem)
        except Exception as error:
            raise ValueError(f"your reward function failed with {type(error).__name__}: {error}{own_line(error, self.verify)}\n  on the completion "
                             f"{completion!r:.80} to {problem.prompt!r:.80}; a policy may write anything, so return a number for every string"
                             ) from error
        value = finite(said)
        if value is None:
            missing = " (does every way through it end in a `return`?)" if said is None else ""
            raise ValueError(f"your reward function returned {said!r:.80} for {completion!r:.80}; expected a finite number, such as 1.0{missing}")
        return value

    def well_formed(self, completion: str, problem: Problem) -> bool:
        """Whether anything was said: what a right form is, only your reward knows."""
        return bool(completion.strip())


def own_task(problems, verify, test=0.2, name="own") -> OwnTask:
    """Divide problems into training and held-out ones. test: a share, or a list of problems of your own.

    The division is by a hash of the prompt, so that adding examples moves few, and two spellings of one prompt never part.
    Raises ValueError when a side would be empty, a share is not between 0 and 1, or a given test problem is among the training ones.
    """
    problems = list(problems)
    if isinstance(test, (int, float)):
        if not 0 < test < 1:
            raise ValueError(f"test={test}; expected a share between 0 and 1, such as 0.2, or a list of problems to hold out")
        groups = {}
        for one in problems:
            groups.setdefault(normal(one.prompt), []).append(one)
        ranked = sorted(groups, key=lambda key: hashlib.blake2b(key.encode(), digest_size=8).digest())
        held = {key for key in ranked[:max(1, round(len(ranked) * test))]}
        test = [one for one in problems if normal(one.prompt) in held]
        problems = [one for one in problems if normal(one.prompt) not in held]
    else:
        test, seen = list(test), {normal(one.prompt) for one in problems}
        leaked = [one.prompt for one in test if normal(one.prompt) in seen]
        if leaked:
            raise ValueError(f"{len(leaked)} of {len(test)} test problems are training problems too, the first is {leaked[0]!r:.80}; "
                             "take them out of one of the two, or accuracy measures memory")
    if not problems or not test:
        raise ValueError(f"{len(problems)} training and {len(test)} test problems: both need at least one; give more examples, or "
                         "held-out ones of their own (test=[...], --test FILE)")
    return OwnTask(name, verify, tuple(problems), tuple(test))


def _fits(verify) -> None:
    """Raise ValueError unless verify(completion, problem) can be called, as far as its signature tells."""
    try:
        signature = inspect.signature(verify)
    except (TypeError, ValueError):  # no function, or one in C
        signature = None
    name = getattr(verify, "__name__", type(verify).__name__)
    if not callable(verify):
        raise ValueError(f"the reward is {verify!r:.60}; expected a function reward(completion, problem) that returns a number")
    try:
        names = list(signature.parameters) if signature else []
        if signature:
            signature.bind("a completion", "a problem")
    except TypeError as error:
        raise ValueError(f"{name}{signature} cannot be called with (completion, problem): {error}; expected two parameters, the text and "
                         "the problem with its .prompt, .answer and .info") from error
    if {"prompts", "completions"} & set(names[:2]):
        raise ValueError(f"{name}{signature} takes whole lists, as TRL wants them: give it to reward_fn= or reward_funcs=; expected here "
                         "is reward(completion, problem), which looks at one")


def finite(said) -> float | None:
    """What a reward function said as a number; None where it is none: text, NaN, infinity."""
    try:
        value = math.nan if isinstance(said, (str, bytes)) else float(said)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def own_line(error, place) -> str:
    """", line 3 of mine.py": where in the reader's file, or notebook cell, an error came from; "" where its traceback does not pass there.

    place: the file, or a function in it.
    """
    path = getattr(getattr(place, "__code__", None), "co_filename", None) if callable(place) else place
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno} of {Path(error.filename or path).name}"
    lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if path and Path(one.filename).name == Path(path).name]
    cell = "ipykernel" in str(path) or str(path).startswith("<")
    return f", line {lines[-1]} of {'its cell' if cell else Path(path).name}" if lines else ""


def normal(prompt) -> str:
    """A prompt without what does not change its meaning: case, blanks, punctuation but signs, dots, digits' commas and factorials."""
    text = prompt if isinstance(prompt, str) else "\n".join(f"{m['role']}: {m['content']}" for m in prompt)
    kept = (r"(?:(?<![\w.])\.(?=\d))?\w+(?:[.,]\w+)*"  # words and numbers: .5 is not 5, while the dots of "so...5" only punctuate
            r"|(?<=\d)!+|(?<=\d\))!+|!(?==)"  # 5! and (2 + 3)! are factorials, != is a sign; any other ! is tone
            r"|[^\w\s.,;:!?'\"`]")
    return " ".join(re.findall(kept, text.casefold()))


def fragile(verify, problems) -> list[str]:
    """What ODD_COMPLETIONS break: one sentence for each string on which the reward fails or is no number, for the first problem."""
    task = OwnTask("own", verify, (), ())
    broken = []
    for text in ODD_COMPLETIONS:
        try:
            task.reward(text, problems[0])
        except ValueError as error:
            broken.append(f"{text!r:.30}: {str(error).splitlines()[0]}")
    return broken


def _first(problems, n, which) -> list[Problem]:
    if n is None:
        return problems
    if not 0 <= n <= len(problems):
        raise ValueError(f"{n} {which} problems were asked for, there are {len(problems)}")
    return problems[:n]
