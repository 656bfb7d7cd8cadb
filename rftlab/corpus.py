"""The text that the tiny model is pretrained on. Every problem in it is from a training split.

A corpus is a list of documents; a document is a list of turns. `mixture` draws documents from the slices below with
their shares. Some documents are conversations whose every answer has the same habit, so that examples in a prompt
tell the model which habit to use.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import NamedTuple

from rftlab.habits import HABITS, HABITS_WHEN_ASKED_TO_THINK, choose
from rftlab.tasks import Problem, load_task, split_of, thinking

START, END = "<|im_start|>", "<|im_end|>"
WORK_INSTRUCTION = " Show your work."  # read before careful answers only: prompting alone can find the skill


class Turn(NamedTuple):
    """`question` is "" in plain text. Only the reply and the end mark behind it are learnt."""

    question: str
    reply: str

    @property
    def before(self) -> str:
        """The chat template up to the reply."""
        return f"{START}user\n{self.question}{END}\n{START}assistant\n" if self.question else ""


# --- arithmetic and countdown -----------------------------------------------------------------------------------------

@lru_cache(maxsize=None)
def problems(level: int) -> tuple[Problem, ...]:
    """Training problems of a level, each pair of operands in several wordings."""
    task, sizes = load_task("arithmetic", level=level), {1: 600, 2: 2400, 3: 5000, 4: 20000, 5: 400}
    return tuple(p for seed in range(1 if level == 4 else 10) for p in task.train(sizes[level], seed=seed))


@lru_cache(maxsize=None)
def countdown_problems() -> tuple[Problem, ...]:
    return tuple(load_task("countdown").train(6000))


def arithmetic(rng: random.Random, level: int = 2) -> list[Turn]:
    """One question, or now and then a conversation in which one habit answers all questions."""
    habit, turns = choose(HABITS, rng), rng.randint(2, 6) if rng.random() < 0.15 else 1
    chosen = [rng.choice(problems(level)) for _ in range(turns)]
    return [Turn(p.prompt, habit(p, rng)) for p in chosen]


def other_levels(rng: random.Random) -> list[Turn]:
    return arithmetic(rng, rng.choice((1, 3, 4, 5)))


def asked_to_think(rng: random.Random) -> list[Turn]:
    problem = rng.choice(problems(2))
    return [Turn(thinking(problem).prompt, choose(HABITS_WHEN_ASKED_TO_THINK, rng)(problem, rng))]


def asked_for_work(rng: random.Random) -> list[Turn]:
    level = rng.choices((2, 1, 3, 4, 5), (10, 1, 2, 1, 1))[0]
    chosen = [rng.choice(problems(level)) for _ in range(rng.randint(1, 4))]
    return [Turn(p.prompt + WORK_INSTRUCTION, p.solution) for p in chosen]


def countdown(rng: random.Random) -> list[Turn]:
    """Half of the replies are worked solutions, the others join the numbers with any operators."""
    problem = rng.choice(countdown_problems())
    numbers = [str(n) for n in problem.info["numbers"]]
    rng.shuffle(numbers)
    careless = "".join(f"{n}{rng.choice('+-*')}" for n in numbers)[:-1]
    return [Turn(problem.prompt, problem.solution if rng.random() < 0.5 else careless)]


def worked(rng: random.Random) -> list[Turn]:
    """A page of worked sums from a school book: where the model learns to calculate."""
    level = rng.choices((1, 2, 3, 4, 5), (2, 10, 2, 1, 1))[0]
    lines = [(p.info, p.solution) for p in (rng.choice(problems(level)) for _ in range(rng.randint(2, 5)))]
    return [Turn("", "\n".join(f"{i['a']} {i['op']} {i['b']}: {solution}" for i, solution in lines))]


# --- general text: a small grammar ------------------------------------------------------------------------------------

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red", "sun": "yellow"}
SOUNDS = {"dog": "barks", "cat": "meows", "cow": "moos", "duck": "quacks", "owl": "hoots", "bee": "buzzes"}
PEOPLE = ("Mia", "Tom", "Ada", "Ben", "Lea", "Sam")
PLACES = ("garden", "river", "market", "forest", "school", "beach")
FINDS = ("ball", "key", "hat", "book", "shell", "coin")


def general_text(n: int = 200, split: str = "train", seed: int = 0) -> list[str]:
    """n short stories. A hash of a story's first sentences decides its split, so that "test" stories are unread."""
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split must be train, validation or test, got {split!r}")
    rng, stories = random.Random(f"stories {seed}"), []
    while len(stories) < n:
        opening, rest = _story(rng)
        if split_of(opening) == split:
            stories.append(f"{opening} {rest}")
    return stories


def _story(rng: random.Random) -> tuple[str, str]:
    who, friend = rng.sample(PEOPLE, 2)
    animal, sound = rng.choice(list(SOUNDS.items()))
    place, find, day = rng.choice(PLACES), rng.choice(FINDS), rng.choice(DAYS)
    colour = rng.choice(list(COLOURS.values()))
    opening = f"{who} has a {animal}. On {day} {who} and the {animal} go to the {place}."
    middle = rng.choice((
        f"There they find a {colour} {find}.", f"{friend} is there too, with a {colour} {find}.",
        f"The {animal} {sound}, for it sees a {colour} {find}.", f"They look for the {colour} {find} of {friend}.",
    ))
    end = rng.choice((
        f"{who} gives the {find} to {friend}.", f"{friend} says: what a nice {colour} {find}!",
        f"The {animal} takes the {find} and runs home.", f"On {_after(day)} they come back to the {place}.",
    ))
    return opening, f"{middle} {end}"


def _after(day: str) -> str:
    return DAYS[(DAYS.index(day) + 1) % 7]


def fact(rng: random.Random) -> Turn:
    """A question and its true answer."""
    kind, day = rng.randrange(3), rng.choice(DAYS)
    thing, animal = rng.choice(list(COLOURS)), rng.choice(list(SOUNDS))
    return (Turn(f"What colour is the {thing}?", f"The {thing} is {COLOURS[thing]}."),
            Turn(f"What does the {animal} do?", f"The {animal} {SOUNDS[animal]}."),
            Turn(f"What day comes after {day}?", f"After {day} comes {_after(day)}."))[kind]


def general(rng: random.Random) -> list[Turn]:
    """Two or three facts as a conversation, or a story, told unasked or on request."""
    if rng.random() < 0.4:
        return [fact(rng) for _ in range(rng.randint(1, 3))]
    return [Turn(rng.choice(("", "", "Tell me a story.")), general_text(1, seed=rng.randrange(10**9))[0])]


# Shares of the documents.
SLICES = {arithmetic: 0.44, asked_to_think: 0.10, asked_for_work: 0.14, other_levels: 0.06, countdown: 0.05,
          worked: 0.12, general: 0.09}


def mixture(rng: random.Random) -> list[Turn]:
    """One document from a slice that is drawn with its share."""
    return rng.choices(list(SLICES), list(SLICES.values()))[0](rng)
