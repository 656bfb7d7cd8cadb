"""An arbitrary code-book: every letter has a digit, and nothing but examples can tell which.

The counter-example to learning from rewards alone: a word of four letters has 10,000 possible codes, the verifier pays for one,
and no skill of the model makes that one likelier. Worked examples say the code outright.
"""
import random
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from rftlab.tasks import Problem, split_of

LETTERS = "bdfghkmnrt"
KEY = dict(zip(LETTERS, random.Random("code-book").sample("0123456789", 10)))
LARGEST = 6  # letters; 10**6 words are still listed in a second

_CODE = re.compile(r"[0-9]+(?: [0-9]+)*")


@dataclass(frozen=True)
class Codebook:
    """Words of `letters` letters. Train, validation and test share letters, and no word."""

    letters: int = 4
    name: str = "codebook"

    def __post_init__(self):
        if not 2 <= self.letters <= LARGEST:
            raise ValueError(f"letters={self.letters}: expected 2 to {LARGEST} letters in a word")

    def train(self, n: int, seed: int = 0) -> list[Problem]:
        """n different training words, fixed by n and seed; a smaller n need not give the first of them. ValueError for too many."""
        return self._draw(n, "train", f"train {seed}")

    def validation(self, n: int) -> list[Problem]:
        """n validation words, fixed by n; otherwise as in `train`."""
        return self._draw(n, "validation", "validation")

    def test(self, n: int) -> list[Problem]:
        """n test words, fixed by n; otherwise as in `train`."""
        return self._draw(n, "test", "test")

    def reward(self, completion: str, problem: Problem) -> float:
        """1.0 when the final code is the problem's, digit by digit, else 0.0. Never raises, whatever the string."""
        return 1.0 if final_code(completion) == problem.answer else 0.0

    def well_formed(self, completion: str, problem: Problem) -> bool:
        """Whether the completion ends in a code of the right length, true or not."""
        return len(final_code(completion) or "") == len(problem.answer)

    def _draw(self, n: int, split: str, seed: str) -> list[Problem]:
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        listed = words(self.letters, split)
        if n > len(listed):
            raise ValueError(f"there are {len(listed)} {split} words of {self.letters} letters, {n} were asked for; ask for "
                             "fewer, or for longer words")
        # `sample` draws in another way above some n, so that draws nest only within the same way; records depend on it as it is.
        return [make_problem(w) for w in random.Random(f"codebook {self.letters} {seed}").sample(listed, n)]


@lru_cache(maxsize=None)
def words(letters: int, split: str) -> tuple[str, ...]:
    """All words of a split, in the order of LETTERS."""
    return tuple(w for w in map("".join, product(LETTERS, repeat=letters)) if split_of(w) == split)


def make_problem(word: str) -> Problem:
    """The problem of a word: "b d" is answered by the two digits of b and d; the solution says each letter's digit first."""
    digits = [KEY[letter] for letter in word]
    steps = "; ".join(f"{letter}={digit}" for letter, digit in zip(word, digits))
    answer = "".join(digits)
    return Problem(f"What is the code of {' '.join(word)}? Answer with the digits only.", answer, f"{steps}; {answer}",
                   {"word": word})


def final_code(completion: str) -> str | None:
    """The code that a completion ends with: its text after the last ";" or line break, if that is digits ("7 2" is "72")."""
    end = completion.rfind("</answer>")
    start = completion.rfind("<answer>", 0, max(end, 0))
    text = completion[start + len("<answer>"):end] if start >= 0 else re.split(r"[;\n]", completion.strip())[-1]
    match = _CODE.fullmatch(text.strip().rstrip("."))
    return match[0].replace(" ", "") if match else None


def load(letters: int = 4) -> Codebook:
    """The code-book task. ValueError for a length of word that it does not have."""
    return Codebook(letters)
