"""The checks of notebook 02 accept the solutions, know the stubs, and explain wrong answers."""
import functools
import re
from pathlib import Path

import pytest
import torch

import notebook_cells
from rftlab import advantages, losses
from rftlab.checks import grpo_from_scratch as check

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
EXERCISES = ["small_bonus", "informative_share", "dapo_loss", "language_consistency", "catches_the_bug"]


run_cells = functools.partial(notebook_cells.run_cells, namespace={"check": check})


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def default_dtype(request):
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def solutions():
    return run_cells(NOTEBOOKS / "solutions" / "02_grpo_from_scratch.ipynb")[0]


def test_the_stubs_are_not_attempted():
    _, printed = run_cells(NOTEBOOKS / "02_grpo_from_scratch.ipynb", lambda cell: re.search(r"\bcheck\.", cell.source))
    assert printed.splitlines() == [f"not attempted: {name}" for name in EXERCISES]


def test_the_solutions_pass(default_dtype):
    _, printed = run_cells(NOTEBOOKS / "solutions" / "02_grpo_from_scratch.ipynb")
    passed = [line for line in printed.splitlines() if "passed" in line or "attempted" in line]
    assert passed == [f"passed: {name}" for name in EXERCISES]


def clipped(log_probs, old, signs, low=0.2, high=0.28, pick=torch.minimum):
    ratio, signs = (log_probs - old).exp(), signs[:, None]
    return pick(ratio * signs, ratio.clamp(1 - low, 1 + high) * signs)


def mean(values, mask):
    return -(values * mask).sum() / mask.sum()


def published_clip(log_probs, old, signs, mask):
    """The clip as seven files of a well-known course have it: with A < 0 the larger product."""
    ratio, signs = (log_probs - old).exp(), signs[:, None]
    clip = ratio.clamp(0.8, 1.28)
    return mean(torch.where(signs > 0, torch.minimum(ratio * signs, clip * signs), torch.maximum(ratio * signs, clip * signs)), mask)


def share(words):
    return sum(word.isascii() for word in words) / len(words)


def thought(text):
    found = re.search(r"<think>(.*?)</think>", text, re.DOTALL)
    return found and found[1].split()


def up_to_the_end(text):
    head, end, _ = text.partition("</think>")
    words = head.replace("<think>", "").split()
    return share(words) if end and words else 0.0


def language(pay):
    return lambda prompts, completions, **columns: [pay(text) for text in completions]


def bare_signature(prompts, completions):
    return [0.0] * len(completions)


HAND = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])


def detects(rewards, group_size, atol=1e-2):
    """A test of an advantage function on one batch: True when its answer differs from the package's."""
    expected = advantages.group_relative(rewards.view(-1, group_size)).flatten()
    return lambda advantage_fn: not torch.allclose(advantage_fn(rewards, group_size), expected, atol=atol)


WRONG = [
    (check.small_bonus, 0.075, "divides it by the standard deviation"),
    (check.small_bonus, 0.1, "the bonus itself"),
    (check.small_bonus, 1.732, "n - 1 = 3"),
    (check.small_bonus, 2.0, "own reward"),
    (check.small_bonus, 0.15, "ten times more"),
    (check.small_bonus, 1.0, "deviation from the group's mean"),
    (check.informative_share, lambda p, G: 1 - (1 - p) ** G, "all are right teaches nothing either"),
    (check.informative_share, lambda p, G: 1 - p**G, "all are wrong teaches nothing either"),
    (check.informative_share, lambda p, G: p**G + (1 - p) ** G, "that teach nothing"),
    (check.informative_share, lambda p, G: 0.0, "the chances of one completion"),
    (check.informative_share, lambda p, G: 1 - 2 * p**G, "1 - p"),
    (check.informative_share, lambda p, G: p, "1 minus the chance"),
    (check.informative_share, lambda p, G: (1 - p**G - (1 - p) ** G) if isinstance(p, float) else 0.5, "for a tensor"),
    (check.dapo_loss, losses.grpo, "mean of each completion first"),
    (check.dapo_loss, lambda *given: -losses.dapo(*given), "a minus is missing"),
    (check.dapo_loss, lambda lp, old, A, mask: -(clipped(lp, old, A) * mask).mean(), "padding was counted"),
    (check.dapo_loss, lambda lp, old, A, mask: -(clipped(lp, old, A) * mask).sum(), "divide the sum"),
    (check.dapo_loss, lambda lp, old, A, mask: mean(clipped(lp, old, A, 0.2, 0.2), mask), "1.28 and 0.8"),
    (check.dapo_loss, lambda lp, old, A, mask: mean(clipped(lp, old, A, 9.0, 9.0), mask), "the clip is missing"),
    (check.dapo_loss, lambda lp, old, A, mask: mean(clipped(lp, old, A, pick=torch.maximum), mask), "not the larger"),
    (check.dapo_loss, lambda lp, old, A, mask: mean((lp - old).exp().clamp(0.8, 1.28) * A[:, None], mask), "the minimum is missing"),
    (check.dapo_loss, published_clip, "picks the larger ratio"),
    (check.dapo_loss, lambda *given: losses.dapo(*given).detach(), "no gradient flows back"),
    (check.dapo_loss, lambda *given: losses.dapo(*given).item(), "no gradient flows back"),
    (check.dapo_loss, lambda lp, old, A, mask: losses.dapo(lp, old, A, mask) + 0 * lp.sum() + 0.1 * (lp - lp.detach()).sum(),
     "the gradient for them"),
    (check.language_consistency, language(lambda text: share(text.split())), "only the words between the think tags"),
    (check.language_consistency, language(lambda text: share("".join(re.findall("<think>(.*?)</think>", text)))), "words, not characters"),
    (check.language_consistency, language(lambda text: float(sum(map(str.isascii, thought(text) or [])))), "a share lies between"),
    (check.language_consistency, language(lambda text: 1 - share(thought(text) or ["x"])), "of the other language"),
    (check.language_consistency, language(lambda text: share((re.findall("<think>(.*?)</think>", text) or ["个"])[0].split())),
     "re.DOTALL"),
    (check.language_consistency, language(lambda text: share(thought(text)) if thought(text) else 1.0), "nothing to be consistent"),
    (check.language_consistency,
     language(lambda text: share(text.split("<think>")[1].split("</think>")[0].split() or ["个"]) if "<think>" in text else 0.0),
     "never ends is none"),
    (check.language_consistency, language(lambda text: share(thought(text) or ["x"]) if "</think>" in text else 0.0), "no division by 0"),
    (check.language_consistency, language(up_to_the_end), "never began is none"),
    (check.language_consistency, language(lambda text: up_to_the_end(text) if "<think>" in text else 0.0), "words before"),
    (check.language_consistency, lambda prompts, completions, **columns: [0.75] * len(completions), "hint"),
    (check.catches_the_bug, lambda fn: True, "a right function was called broken"),
    (check.catches_the_bug, detects(HAND, 3, atol=1e-7), "with a tolerance"),
    (check.catches_the_bug, lambda fn: False, "no bug at all"),
    (check.catches_the_bug, detects(torch.tensor([1.0, 0.0, 1.0, 1.0]), 2), "no bug at all"),
    (check.catches_the_bug, lambda fn: fn is check._transposed, "different rewards"),
    (check.catches_the_bug, lambda fn: fn in (check._transposed, check._interleaved), "two prompts of different difficulty"),
    (check.catches_the_bug, lambda fn: fn in (check._transposed, check._interleaved, check._whole_batch), "by hand"),
]


@pytest.mark.parametrize("exercise, answer, message", WRONG, ids=[f"{fn.__name__}-{i}" for i, (fn, _, _) in enumerate(WRONG)])
def test_wrong_answers_are_rejected(exercise, answer, message, capsys):
    with pytest.raises(AssertionError) as raised:
        exercise(answer)
    assert message in str(raised.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error, answer", [(ZeroDivisionError, language(lambda text: share(thought(text) or []))),
                                           (TypeError, bare_signature)])
def test_errors_of_the_readers_reward_pass_through(error, answer):
    with pytest.raises(error):
        check.language_consistency(answer)


def test_a_test_on_unequal_sizes_catches_every_bug(capsys):
    check.catches_the_bug(detects(HAND, 3))
    assert capsys.readouterr().out == "passed: catches_the_bug\n"
