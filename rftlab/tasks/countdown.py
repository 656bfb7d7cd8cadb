"""The countdown task: combine the given numbers into an expression that makes a target.

Source: the numbers game of TinyZero (Pan et al. 2025). Published verifiers run `eval` behind a regular
expression and so pay for powers, floor division, signs and decimals that the rules do not have. This one
parses the expression and computes with exact fractions; what the grammar below does not derive earns 0.

    expression := term (("+" | "-") term)*
    term       := factor (("*" | "/") factor)*
    factor     := number | "(" expression ")"
    number     := "0" | [1-9][0-9]*            ASCII digits, no sign, no leading zero, no decimal point
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from rftlab.tasks import Problem, split_of

MAX_LENGTH = 256  # characters of an expression; six numbers of four digits with redundant parentheses need under 100
MAX_DEPTH = 20  # nested parentheses; bounds the parser's recursion
PATIENCE = 20_000  # draws without a new problem before the problem space counts as used up

BLANK = " \t\r\n"
TOKEN = re.compile(r"0|[1-9][0-9]*|[-+*/()]")
CLAIM = re.compile(r"=[ \t\r\n]*(0|[1-9][0-9]*)")
PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


@dataclass(frozen=True)
class Countdown:
    """Countdown problems with `numbers` numbers from 1 to `largest` and a target from 1 to `largest_target`.

    Every problem has a solution whose intermediate values are positive integers. The hash of a problem's sorted
    numbers and target decides its split, so train, validation and test never share a problem, whatever the
    options and seeds. Raises ValueError for options that cannot make a problem.
    """

    numbers: int = 3
    largest: int = 20
    largest_target: int = 100
    name: str = "countdown"

    def __post_init__(self):
        if not 2 <= self.numbers <= 6:
            raise ValueError(f"numbers={self.numbers}: expected 2 to 6 numbers in a problem; 3 is the usual size")
        if self.largest < 2 or self.largest_target < 2:
            raise ValueError(
                f"largest={self.largest}, largest_target={self.largest_target}: expected at least 2 for both, "
                "or there is next to nothing to choose from"
            )

    def train(self, n: int, seed: int = 0) -> list[Problem]:
        """Return n distinct training problems; the first m of train(n, seed) are train(m, seed).

        Raises ValueError when the options allow fewer than n.
        """
        return self._draw("train", n, seed)

    def validation(self, n: int) -> list[Problem]:
        """Return n distinct validation problems, always the same ones; raises ValueError as `train` does."""
        return self._draw("validation", n, 0)

    def test(self, n: int) -> list[Problem]:
        """Return n distinct test problems, always the same ones; raises ValueError as `train` does."""
        return self._draw("test", n, 0)

    def reward(self, completion: str, problem: Problem) -> float:
        """Return 1.0 when the completion's final answer solves the problem by the rules, otherwise 0.0.

        The final answer is the content of the last <answer>...</answer>, or without one the last line that is not
        blank, of it the part after the last ";". A trailing "= N" is allowed when N is the target. Never raises,
        whatever the string.
        """
        numbers, target = problem.info["numbers"], problem.info["target"]
        expression, claim = split_claim(final_answer(completion))
        if claim is not None and claim != target:
            return 0.0
        try:
            value, used = evaluate(expression)
        except (ValueError, ZeroDivisionError):
            return 0.0
        return float(value == target and sorted(used) == sorted(numbers))

    def well_formed(self, completion: str, problem: Problem) -> bool:
        """Whether the final answer is an expression of exactly the given numbers, whatever its value."""
        try:
            _, used = evaluate(split_claim(final_answer(completion))[0])
        except (ValueError, ZeroDivisionError):
            return False
        return sorted(used) == sorted(problem.info["numbers"])

    def _draw(self, split: str, n: int, seed: int) -> list[Problem]:
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        rng = random.Random(f"countdown {split} {seed}")
        found, misses = {}, 0
        while len(found) < n:
            problem = self._problem(rng)
            key = "{numbers} {target}".format(**problem.info)
            if key in found or split_of(key) != split:
                misses += 1
                if misses == PATIENCE:
                    raise ValueError(
                        f"found only {len(found)} of {n} distinct {split} problems with {self.numbers} numbers up to "
                        f"{self.largest} and targets up to {self.largest_target}: ask for fewer, or raise "
                        "largest or largest_target"
                    )
                continue
            found[key], misses = problem, 0
        return list(found.values())

    def _problem(self, rng: random.Random) -> Problem:
        while True:
            numbers = sorted(rng.randint(1, self.largest) for _ in range(self.numbers))
            target, answer, steps = random_expression(numbers, rng)
            if target <= self.largest_target:
                break
        listed = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
        prompt = (
            f"Use {listed} to make {target}. Use each number once, with + - * / and parentheses. "
            "Answer with the expression only."
        )
        return Problem(prompt, answer, "; ".join([*steps, answer]), info={"numbers": numbers, "target": target})


def load(**options) -> Countdown:
    """Return the countdown task; options are the fields of `Countdown`."""
    return Countdown(**options)


def random_expression(numbers: list[int], rng: random.Random) -> tuple[int, str, list[str]]:
    """Join the numbers in a random order; return (value, expression, steps), all values positive integers."""
    parts = [(number, str(number), 3) for number in numbers]  # (value, text, precedence of its outermost operator)
    steps = []
    while len(parts) > 1:
        (a, left, left_rank), (b, right, right_rank) = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
        values = {"+": a + b, "*": a * b}
        if a > b:
            values["-"] = a - b
        if a % b == 0:
            values["/"] = a // b
        operator = rng.choice(sorted(values))
        value, rank = values[operator], PRECEDENCE[operator]
        if left_rank < rank:
            left = f"({left})"
        if right_rank < rank or (right_rank == rank and operator in "-/"):
            right = f"({right})"
        steps.append(f"{a}{operator}{b}={value}")
        parts.append((value, f"{left}{operator}{right}", rank))
    return parts[0][0], parts[0][1], steps


def final_answer(completion: str) -> str:
    """Return the text that counts as the answer; see `Countdown.reward`."""
    end = completion.rfind("</answer>")
    start = completion.rfind("<answer>", 0, max(end, 0))
    if start >= 0:
        return completion[start + len("<answer>") : end]
    lines = completion.strip().splitlines()
    return lines[-1].rsplit(";", 1)[-1] if lines else ""


def split_claim(answer: str) -> tuple[str, int | None]:
    """Split "3*5+7 = 22" into ("3*5+7", 22); without a well-formed claim the whole text is the expression."""
    answer = answer.strip(BLANK)
    at = answer.find("=")
    claim = CLAIM.fullmatch(answer, at) if 0 <= at and len(answer) <= MAX_LENGTH else None
    return (answer[:at], int(claim[1])) if claim else (answer, None)


def evaluate(expression: str) -> tuple[Fraction, list[int]]:
    """Return the exact value of an expression and the numbers it uses, in order.

    Raises ValueError for anything outside the grammar (module docstring) or over the limits, and
    ZeroDivisionError for a division by zero.
    """
    tokens = Tokens(tokenize(expression))
    value = parse_sum(tokens, MAX_DEPTH)
    if tokens.next is not None:
        raise ValueError(f"expected an operator or the end, got {tokens.next!r}")
    return value, tokens.used


def tokenize(expression: str) -> Iterator[str]:
    """Yield numbers, operators and parentheses; raises ValueError on any other character but ASCII white space."""
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"the expression has {len(expression)} characters, more than {MAX_LENGTH}")
    at = 0
    while at < len(expression):
        if expression[at] in BLANK:
            at += 1
            continue
        match = TOKEN.match(expression, at)
        if match is None:
            raise ValueError(f"unexpected character {expression[at]!r}")
        yield match[0]
        at = match.end()


class Tokens:
    """One token of look-ahead over a token stream, and the numbers that were taken from it."""

    def __init__(self, stream: Iterator[str]):
        self.stream, self.used = stream, []
        self.next = next(stream, None)

    def take(self) -> str | None:
        token, self.next = self.next, next(self.stream, None)
        return token


def parse_sum(tokens: Tokens, depth: int) -> Fraction:
    value = parse_product(tokens, depth)
    while tokens.next in ("+", "-"):
        sign = 1 if tokens.take() == "+" else -1
        value += sign * parse_product(tokens, depth)
    return value


def parse_product(tokens: Tokens, depth: int) -> Fraction:
    value = parse_factor(tokens, depth)
    while tokens.next in ("*", "/"):
        operator, factor = tokens.take(), parse_factor(tokens, depth)
        value = value * factor if operator == "*" else value / factor
    return value


def parse_factor(tokens: Tokens, depth: int) -> Fraction:
    token = tokens.take()
    if token is not None and token.isdigit():
        tokens.used.append(int(token))
        return Fraction(token)
    if token != "(":
        raise ValueError(f"expected a number or an opening parenthesis, got {token!r}")
    if depth == 0:
        raise ValueError(f"more than {MAX_DEPTH} nested parentheses")
    value = parse_sum(tokens, depth - 1)
    if tokens.take() != ")":
        raise ValueError("a parenthesis is not closed")
    return value
