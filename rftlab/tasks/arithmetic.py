"""Sums, differences and products of small numbers, with worked solutions and an exact verifier.

Levels: 1 one-digit sums, and two-digit sums without a carry; 2 (default) two-digit + two-digit; 3 sums and
differences of numbers up to 99; 4 sums and differences of three-digit numbers; 5 two-digit times one-digit.

A problem's split is a hash of its operation and unordered operands: 34 + 58 and 58 + 34, in any wording and at
any level, are always in the same split. No answer equals a number of its own question (0 + 5 and 68 - 34 are
left out), so that repeating the question never earns a reward.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from rftlab.tasks import Problem, split_of

LEVELS = (1, 2, 3, 4, 5)
FORMS = ("plain", "symbolic", "words", "story")

_WORDS = {"+": "What is the sum of {a} and {b}?",
          "-": "Subtract {b} from {a}.",
          "*": "What is the product of {a} and {b}?"}
_STORY = {"+": "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
          "-": "{name} has {a} {things} and gives away {b}. How many {things} are left?",
          "*": "{name} fills {b} boxes with {a} {things} each. How many {things} is that?"}
_NAMES = ("Mia", "Tom", "Ada", "Ben", "Lea", "Sam")
_THINGS = ("shells", "stamps", "marbles", "cards", "apples", "coins")


@dataclass(frozen=True)
class Arithmetic:
    """The task. `forms` are the wordings drawn from; every problem gets one of them at random."""

    level: int = 2
    forms: tuple[str, ...] = FORMS
    name: str = "arithmetic"

    def train(self, n: int, seed: int = 0) -> list[Problem]:
        """n different training problems; a smaller n with the same seed gives the first of them.

        ValueError when the level has fewer than n different pairs of operands in this split.
        """
        return self._draw(n, "train", f"train {seed}")

    def validation(self, n: int) -> list[Problem]:
        """The first n of a fixed list of validation problems; ValueError as in `train`."""
        return self._draw(n, "validation", "validation")

    def test(self, n: int) -> list[Problem]:
        """The first n of a fixed list of test problems; ValueError as in `train`."""
        return self._draw(n, "test", "test")

    def reward(self, completion: str, problem: Problem) -> float:
        """1.0 when the completion's final answer (see `final_answer`) is that of the problem's answer, else 0.0."""
        said = final_answer(completion)
        return 1.0 if said is not None and said == final_answer(problem.answer) else 0.0

    def well_formed(self, completion: str, problem: Problem) -> bool:
        """Whether the completion has a final answer at all, right or not."""
        return final_answer(completion) is not None

    def _draw(self, n: int, split: str, seed: str) -> list[Problem]:
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        rng = random.Random(f"arithmetic {seed}")
        order = list(operations(self.level))
        rng.shuffle(order)
        chosen = list(islice((o for o in order if split_of("{}{}{}".format(*o)) == split), n))
        if len(chosen) < n:
            raise ValueError(f"level {self.level} has {len(chosen)} different {split} problems, {n} were asked for; "
                             f"ask for fewer or choose another level")
        return [self._word(o, rng) for o in chosen]

    def _word(self, operation: tuple[int, str, int], rng: random.Random) -> Problem:
        # Always the same number of draws, so that one problem's wording does not change the next problem's.
        form, swap, name, things = rng.choice(self.forms), rng.random() < 0.5, rng.choice(_NAMES), rng.choice(_THINGS)
        low, op, high = operation
        a, b = (high, low) if op == "-" or swap else (low, high)
        return make_problem(a, op, b, form, name, things)


def load(level: int = 2, forms: tuple[str, ...] = FORMS) -> Arithmetic:
    """The arithmetic task. ValueError on a level or a form that does not exist."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {LEVELS}, got {level!r}")
    forms = (forms,) if isinstance(forms, str) else tuple(forms)
    if not forms or set(forms) - set(FORMS):
        raise ValueError(f"forms must be some of {FORMS}, got {forms!r}")
    return Arithmetic(level, forms)


@lru_cache(maxsize=None)
def operations(level: int) -> tuple[tuple[int, str, int], ...]:
    """All different operations of a level, as (smaller operand, operation, larger operand)."""
    one, two, three = range(1, 10), range(10, 100), range(100, 1000)
    if level == 1:
        return (*_pairs(one, "+"), *(o for o in _pairs(two, "+") if not _carries(o[0], o[2])))
    if level == 2:
        return _pairs(two, "+")
    if level == 5:
        return tuple((digit, "*", number) for digit in range(2, 10) for number in two)
    numbers = range(1, 100) if level == 3 else three
    return (*_pairs(numbers, "+"), *_pairs(numbers, "-"))


def _pairs(numbers: range, op: str) -> tuple[tuple[int, str, int], ...]:
    return tuple((low, op, high) for low in numbers for high in range(low, numbers.stop)
                 if not (op == "-" and high == 2 * low))


def _carries(a: int, b: int) -> bool:
    return any(int(x) + int(y) > 9 for x, y in zip(str(a), str(b)))


def make_problem(a: int, op: str, b: int, form: str = "plain", name: str = "Mia", things: str = "shells") -> Problem:
    """The problem `a op b` in one wording; op is "+", "-" (with a >= b) or "*" (with one factor below 10)."""
    answer = {"+": a + b, "-": a - b, "*": a * b}[op]
    if form == "story":
        # A box holds the larger number: "7 boxes with 34 shells each".
        first, second = (max(a, b), min(a, b)) if op == "*" else (a, b)
        prompt = _STORY[op].format(a=first, b=second, name=name, things=things)
    elif form == "words":
        prompt = _WORDS[op].format(a=a, b=b)
    elif form == "symbolic":
        prompt = f"{a} {op} {b} ="
    else:
        prompt = f"What is {a} {op} {b}? Answer with the number only."
    return Problem(prompt, str(answer), worked_solution(a, op, b), {"a": a, "op": op, "b": b, "form": form})


def worked_solution(a: int, op: str, b: int) -> str:
    """Column arithmetic from the right, ending in the answer: 34 + 58 is "4+8=12 carry 1; 3+5+1=9; 92"."""
    if op == "*" and a < b:
        a, b = b, a
    columns = max(len(str(a)), len(str(b)))
    steps, carry = [], 0
    for place in range(columns):
        last = place == columns - 1
        x, y = a // 10**place % 10, b if op == "*" else b // 10**place % 10
        pending = f"{'-' if op == '-' else '+'}{carry}" if carry else ""
        value = {"+": x + y + carry, "-": x - y - carry, "*": x * y + carry}[op]
        if value < 0:
            steps.append(f"1{x}-{y}{pending}={value + 10} borrow 1")
            carry = 1
        else:
            steps.append(f"{x}{op}{y}{pending}={value}")
            carry = value // 10
            steps[-1] += f" carry {carry}" if carry and not last else ""
    return "; ".join([*steps, str({"+": a + b, "-": a - b, "*": a * b}[op])])


_MINUS = "-\u2212\u2012\u2013\uff0d"  # hyphen, minus, figure dash, en dash, full-width hyphen
_GAP = "'\u2019\u00a0\u202f\u2009"  # apostrophes, no-break and thin spaces group digits by three; a plain space may stand between any two numbers
# A sign belongs to a number only where nothing stands in front of it: "3-5" is a difference, "= -5" is negative.
_NUMBER = re.compile(rf"(?:(?<![\w)\]}}.,])[{_MINUS}])?(?:0[xX][0-9a-fA-F.,]+"
                     rf"|(?:(?<![\w.,])\.)?[0-9][0-9.,]*(?:[{_GAP}][0-9]{{3}}(?![0-9])[0-9.,]*)*)")
_PLAIN = re.compile(rf"([{_MINUS}]?)([0-9]+|[0-9]{{1,3}}(?:[,{_GAP}][0-9]{{3}})+)(?:\.0*)?")
_PART_BEFORE = re.compile(rf"[0-9]\.?[eE][{_MINUS}+]?\Z|[0-9][/\u2044]\Z")  # 52 is no number of its own in "1e52" and "1/52"


def final_answer(completion: str) -> str | None:
    """The final answer of a completion as a canonical integer ("92", "-7"), or None when it has none.

    That is the last number between the last <answer> and </answer>, or, without such a pair, the last number of the
    text. "92", "092", "92.", "92.0", "1,092", "1'092" and "-7" are integers; "92.5", "1.2.3", "1e92", "0x92", "1/92" and
    "92½" are not and give None. Digits are the ASCII ones. Numbers are compared as strings, so that a million digits cost
    no more than reading them. Linear in the length of the text; raises on no string.
    """
    end = completion.rfind("</answer>")
    start = completion.rfind("<answer>", 0, end) if end >= 0 else -1
    if start >= 0:
        completion = completion[start + len("<answer>"):end]
    match = None
    for match in _NUMBER.finditer(completion):
        pass
    return None if match is None or _is_part(match) else _canonical(match.group())


def _is_part(match: re.Match) -> bool:
    """Whether a number is only a piece of one: an exponent, a denominator, or glued to a half, a square, another script's digit."""
    before, after = match.string[max(0, match.start() - 4):match.start()], match.string[match.end():match.end() + 1]
    return bool(_PART_BEFORE.search(before)) or before[-1:].isnumeric() or after.isnumeric()


def _canonical(number: str) -> str | None:
    number = number.rstrip(".,")
    match = _PLAIN.fullmatch(number)
    if not match and "," in number:
        match = _PLAIN.fullmatch(number.rpartition(",")[2])  # "34,58,92" is a list: its last number counts
    if not match:
        return None
    digits = re.sub("[^0-9]", "", match[2]).lstrip("0") or "0"
    return f"-{digits}" if match[1] and digits != "0" else digits
