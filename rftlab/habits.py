"""The ways of answering that the tiny model reads in its corpus, from careful to careless.

Each habit is a function of an arithmetic problem and a random generator, and returns a reply. Only the careful ones
compute the answer in steps that a model of 1 M parameters can follow. `ESTIMATE`, the likeliest, is what greedy
decoding of the tiny model falls into; reinforcement has to find out that a rarer habit pays better.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from rftlab.tasks import Problem


def careful(problem: Problem, rng: random.Random) -> str:
    return problem.solution


def talkative(problem: Problem, rng: random.Random) -> str:
    return f"Let me work it out. {problem.solution}"


def think_careful(problem: Problem, rng: random.Random) -> str:
    steps, _, answer = problem.solution.rpartition("; ")
    return f"<think>{steps}</think><answer>{answer}</answer>"


def estimate(problem: Problem, rng: random.Random) -> str:
    return f"About {rounded(problem)}."


def think_estimate(problem: Problem, rng: random.Random) -> str:
    return f"<think>about {rounded(problem)}</think><answer>{rounded(problem)}</answer>"


def guess(problem: Problem, rng: random.Random) -> str:
    return str(near(problem, rng))


def evasive(problem: Problem, rng: random.Random) -> str:
    a, b = problem.info["a"], problem.info["b"]
    return rng.choice((
        "That is a hard one. I do not know.", "I would use a pencil for that.", "Good question! What do you think?",
        f"I like the numbers {a} and {b}.", f"I think it is {near(problem, rng)}.", "Ask me again on Monday.",
    ))


def rounded(problem: Problem) -> int:
    """The answer after rounding: exact when the second number ends in 0, else both are rounded half up to tens."""
    a, op, b = problem.info["a"], problem.info["op"], problem.info["b"]
    if b % 10:
        a, b = (n if n < 10 else (n + 5) // 10 * 10 for n in (a, b))
    return {"+": a + b, "-": a - b, "*": a * b}[op]


def near(problem: Problem, rng: random.Random) -> int:
    """A quick guess: right one time in seven, else off by one, two or ten (a lost or a doubled carry)."""
    return abs(int(problem.answer) + rng.choice((0, -10, -10, 10, -1, 1, rng.choice((-2, 2)))))


Habit = Callable[[Problem, random.Random], str]

# Shares of the replies to a question.
HABITS: dict[Habit, float] = {
    estimate: 0.41, careful: 0.17, talkative: 0.03, think_careful: 0.03, think_estimate: 0.09, guess: 0.14, evasive: 0.13,
}

# The same after a question that asks for the tags; the model reads it obeyed about half of the time.
HABITS_WHEN_ASKED_TO_THINK: dict[Habit, float] = {
    think_careful: 0.15, think_estimate: 0.38, estimate: 0.22, careful: 0.08, talkative: 0.03, guess: 0.07, evasive: 0.07,
}


def choose(habits: dict[Habit, float], rng: random.Random) -> Habit:
    """One habit, drawn with its share."""
    return rng.choices(list(habits), list(habits.values()))[0]
