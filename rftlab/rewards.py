"""Reward functions in TRL's signature, and how to combine them.

A reward function is any `f(prompts, completions, **columns) -> list[float]`. One call scores N = B*G completions (B
prompts, G completions each, prompts repeated); `columns` holds the other dataset columns, lists of N, and the trainer's
extras. A completion is a string, or a list of chat messages of which the last one's content counts. The same objects go
into `rftlab.grpo`, TRL's `GRPOTrainer` and Unsloth. All but `random_reward` are pure, and all raise ValueError when the
lists do not match.

Some of these are traps on purpose: a policy is paid for what the function says, not for what its author meant.
"""

import functools
import operator
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rftlab.tasks import Problem

RewardFn = Callable[..., list[float]]
Completion = str | Sequence[Mapping]

THINK = re.compile(r"\s*<think>.*</think>\s*<answer>.*</answer>\s*", re.DOTALL)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def verifier(task) -> RewardFn:
    """Return the reward function that pays `task.reward`: 1.0 for a right answer, 0.0 otherwise.

    It reads the column `problem`: N `Problem` objects, or dicts of their fields, which is how they live in a
    `datasets.Dataset` (`dataclasses.asdict(problem)`). Raises ValueError without that column.
    """

    def verifier(prompts, completions, *, problem: Sequence[Problem | Mapping] | None = None, **columns) -> list[float]:
        texts = contents(prompts, completions)
        if problem is None:
            raise ValueError(
                'the verifier got no column "problem", which holds the right answers: pass problem=[...], or build the '
                'dataset from {"prompt": p.prompt, "problem": dataclasses.asdict(p)} for each problem p'
            )
        _same_length(texts, problem=problem)
        problems = [Problem(**one) if isinstance(one, Mapping) else one for one in problem]
        return [float(task.reward(text, one)) for text, one in zip(texts, problems, strict=True)]

    return verifier


def think_format(prompts, completions, **columns) -> list[float]:
    """Pay 1.0 for exactly one <think>...</think> followed by exactly one <answer>...</answer> and nothing else.

    The format reward of DeepSeek-R1-Zero (DeepSeek-AI 2025, section 2.2.2). It looks at tags only: empty ones are paid
    too. A chat template that opens <think> itself leaves that tag out of the completion, which then earns 0.0.
    """
    texts = contents(prompts, completions)
    return [float(all(text.count(tag) == 1 for tag in TAGS) and THINK.fullmatch(text) is not None) for text in texts]


def number_only(prompts, completions, **columns) -> list[float]:
    """Pay 1.0 for a completion that is just a number, right or wrong.

    The careless format bonus: added to a verifier that pays rarely, it is the easier money, and a policy
    can collapse to emitting any number at all.
    """
    return [float(NUMBER.fullmatch(text.strip()) is not None) for text in contents(prompts, completions)]


def brevity(target: int, unit: str = "characters") -> RewardFn:
    """Return a reward function that pays 1.0 up to `target` long, falling linearly to 0.0 at twice the target.

    The shape of DAPO's soft overlong punishment (Yu et al. 2025, equation 13), raised by one so that it pays instead of
    fining. `unit` is "characters", or "tokens", which reads the column `completion_ids` (N lists of token ids; TRL
    passes it). Saying nothing is paid in full, so give it a small weight beside a verifier. Raises ValueError for a
    target below 1, another unit, or "tokens" without the column.
    """
    if target < 1 or unit not in ("characters", "tokens"):
        raise ValueError(f'brevity({target}, {unit!r}): expected a target of at least 1 and "characters" or "tokens"')

    def brevity(prompts, completions, *, completion_ids=None, **columns) -> list[float]:
        measured = contents(prompts, completions)
        if unit == "tokens":
            if completion_ids is None:
                raise ValueError(
                    'brevity in tokens got no column "completion_ids": pass completion_ids=[...], or count "characters"'
                )
            _same_length(measured, completion_ids=completion_ids)
            measured = completion_ids
        return [min(1.0, max(0.0, 2.0 - len(one) / target)) for one in measured]

    return brevity


def diversity(prompts, completions, **columns) -> list[float]:
    """Pay each completion its mean distance, 0.0 to 1.0, to the other completions for the same prompt.

    Distance is Jaccard's on sets of character trigrams: 0.0 for copies, 1.0 for texts without a trigram in common.
    Completions with equal prompts form a group, in whatever order they come; a completion alone in its group gets 0.0.
    It pays for being different, nonsense included.
    """
    texts = contents(prompts, completions)
    groups: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(repr(prompt), []).append(i)  # a prompt may be a list of messages, which has no hash
    grams = [_trigrams(text.strip()) for text in texts]
    rewards = [0.0] * len(texts)
    for members in groups.values():
        for i in members:
            distances = [_jaccard_distance(grams[i], grams[j]) for j in members if j != i]
            rewards[i] = sum(distances) / len(distances) if distances else 0.0
    return rewards


def random_reward(seed: int, probability: float = 0.5) -> RewardFn:
    """Return the control that pays 1.0 with `probability`, blind to the text, otherwise 0.0.

    The random reward of "Spurious Rewards" (Shao et al. 2025). Each call draws anew from one stream, so that the same
    text is paid differently each time; were it a hash of the text, there would be something to learn. With the column
    `step`, which `rftlab.grpo` passes, the draws are those of (seed, step), so that a run that resumes sees the same ones.
    """
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"random_reward got probability={probability}: expected 0 to 1")
    stream = random.Random(seed)

    def random_reward(prompts, completions, *, step: int | None = None, **columns) -> list[float]:
        rng = stream if step is None else random.Random(f"{seed} {step}")
        return [float(rng.random() < probability) for _ in contents(prompts, completions)]

    return random_reward


def constant(value: float = 1.0) -> RewardFn:
    """Return the control that pays every completion `value`: no group has variance, so nothing can be learned."""

    def constant(prompts, completions, **columns) -> list[float]:
        return [float(value) for _ in contents(prompts, completions)]

    return constant


def combine(weighted: Mapping[RewardFn, float] | Iterable[tuple[RewardFn, float]]) -> "Combined":
    """Return the weighted sum of reward functions, `{fn: weight}` or `[(fn, weight)]`, as one reward function.

    Raises ValueError when there is no part, or two parts have one name.
    """
    pairs = list(weighted.items() if isinstance(weighted, Mapping) else weighted)
    names = [_name(function) for function, _ in pairs]
    if not pairs or len(set(names)) < len(names):
        raise ValueError(
            f"combine got the parts {names}: expected at least one, each with its own name, by which it is logged; "
            'rename one with fn.__name__ = "other"'
        )
    functions, weights = zip(*pairs, strict=True)
    return Combined(dict(zip(names, functions, strict=True)), dict(zip(names, map(float, weights), strict=True)))


@dataclass(frozen=True)
class Combined:
    """A weighted sum of reward functions: `functions` and `weights` by name. Made by `combine`."""

    functions: dict[str, RewardFn]
    weights: dict[str, float]

    def parts(self, prompts, completions, **columns) -> dict[str, list[float]]:
        """Return the N rewards of each part by name, before its weight.

        Raises ValueError when a part does not return N rewards.
        """
        values = {name: fn(prompts=prompts, completions=completions, **columns) for name, fn in self.functions.items()}
        for name, part in values.items():
            if len(part) != len(completions):
                raise ValueError(
                    f"the reward function {name!r} returned {len(part)} rewards for {len(completions)} completions: "
                    "return exactly one each, None where it cannot tell"
                )
        return values

    def __call__(self, prompts, completions, **columns) -> list[float | None]:
        """Return N sums. A sum is None, meaning not known, where a part is None.

        The mean of each part goes to `log_metric(name, value)`, an extra that TRL passes, if there is one.
        """
        values = self.parts(prompts, completions, **columns)
        log_metric = columns.get("log_metric")
        if log_metric is not None:
            for name, part in values.items():
                known = [one for one in part if one is not None]
                if known:
                    log_metric(f"reward_parts/{name}", sum(known) / len(known))
        rows = zip(*values.values(), strict=True)
        weights = self.weights.values()
        return [None if None in row else sum(map(operator.mul, weights, row)) for row in rows]


def contents(prompts: Sequence, completions: Sequence[Completion]) -> list[str]:
    """Return the text of each completion; raises ValueError for unequal lengths or a completion without text."""
    _same_length(completions, prompts=prompts)
    return [one if isinstance(one, str) else _last_content(one) for one in completions]


def _last_content(messages: Sequence[Mapping]) -> str:
    try:
        text = messages[-1]["content"]
    except (TypeError, KeyError, IndexError):
        text = None
    if not isinstance(text, str):
        raise ValueError(
            f"got the completion {messages!r:.80}: expected a string, or a list of chat messages whose last one has "
            'a string under "content"'
        )
    return text


def _same_length(completions: Sequence, **columns: Sequence) -> None:
    for name, column in columns.items():
        if isinstance(column, str) or len(column) != len(completions):
            size = "one string" if isinstance(column, str) else f"a list of {len(column)}"
            raise ValueError(
                f"got {len(completions)} completions, but {name} is {size}: pass one entry for each completion; "
                "each prompt is repeated for its G completions, and every column with it"
            )


def _name(function: RewardFn) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def _trigrams(text: str) -> set[str]:
    return {text[i : i + 3] for i in range(max(1, len(text) - 2))}


def _jaccard_distance(a: set[str], b: set[str]) -> float:
    return 1.0 - len(a & b) / len(a | b)
