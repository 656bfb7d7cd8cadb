"""Problems with a verifier. Each module in this folder has `load(**options)`, which returns a Task."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass, field, replace
from typing import Protocol

NAMES = ("arithmetic", "codebook", "countdown")

# What DeepSeek-R1-Zero's template asks for (DeepSeek-AI, 2025, table 1), in one sentence.
THINK_INSTRUCTION = " Think in <think> tags, answer in <answer> tags."


@dataclass(frozen=True)
class Problem:
    """One question. `prompt` is the user turn as plain text; the policy adds its chat template."""

    prompt: str
    answer: str
    solution: str = ""
    info: dict = field(default_factory=dict, hash=False)


class Task(Protocol):
    """What every task offers. Train, validation and test share no problem content."""

    name: str

    def train(self, n: int, seed: int = 0) -> list[Problem]: ...

    def validation(self, n: int) -> list[Problem]: ...

    def test(self, n: int) -> list[Problem]: ...

    def reward(self, completion: str, problem: Problem) -> float: ...

    def well_formed(self, completion: str, problem: Problem) -> bool: ...


def load_task(name: str, **options) -> Task:
    """The task of that name; `options` go to its module's `load`. ValueError on an unknown name."""
    if name not in NAMES:
        raise ValueError(f"unknown task {name!r}; the tasks are: {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name}").load(**options)


def split_of(content: str) -> str:
    """The split a problem belongs to: 60 % train, 10 % validation, 30 % test.

    `content` must be the same for all surface forms of a problem. The split is a hash of it, so it depends on
    no seed, no order and no Python version (`hash()` would change with every process).
    """
    bucket = int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big") % 10
    return "train" if bucket < 6 else "validation" if bucket < 7 else "test"


def thinking(problem: Problem) -> Problem:
    """The same problem with the instruction to think in <think> tags and answer in <answer> tags."""
    return replace(problem, prompt=problem.prompt + THINK_INSTRUCTION)
