"""The checks of notebook 07 accept the solutions, know the stubs, and explain wrong answers; and the streaming view."""
import functools
import re
from pathlib import Path

import pytest
import torch

import notebook_cells
from rftlab.checks import turbo_lora as check
from rftlab.speculative import view

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
EXERCISES = ["mean_tokens", "residual", "new_tokens", "look_up", "is_lossless"]
run_cells = functools.partial(notebook_cells.run_cells, namespace={"check": check})


def test_the_stubs_are_not_attempted():
    _, printed = run_cells(NOTEBOOKS / "07_turbo_lora.ipynb", lambda cell: re.search(r"\bcheck\.", cell.source))
    assert printed.splitlines() == [f"not attempted: {name}" for name in EXERCISES]


def test_the_solutions_pass():
    _, printed = run_cells(NOTEBOOKS / "solutions" / "07_turbo_lora.ipynb")
    assert [line for line in printed.splitlines() if "passed" in line or "attempted" in line] == [f"passed: {name}" for name in EXERCISES]


def accepted(draft, choice):
    kept = 0
    while kept < len(draft) and draft[kept] == choice[kept]:
        kept += 1
    return kept


def search(tokens, n, k, places):
    for i in places:
        if tokens[i:i + n] == tokens[-n:]:
            return tokens[i + n:i + n + k]
    return []


def only_means(one_rule):
    """Looks at one token only: misses rules that are wrong elsewhere."""
    p, q = torch.tensor([0.1, 0.4, 0.2, 0.3, 0.0]), torch.tensor([0.5, 0.2, 0.2, 0.0, 0.1])
    torch.manual_seed(0)
    drafts, u = torch.multinomial(q, 3000, replacement=True).tolist(), torch.rand(3000, 2).tolist()
    return abs(sum(one_rule(p, q, d, *pair) == 4 for d, pair in zip(drafts, u)) / 3000) < 0.02


WRONG = [
    (check.mean_tokens, 0.875, "a token of the target's own"),
    (check.mean_tokens, 2.5, "1/2, 1/4, 1/8"),
    (check.mean_tokens, 1.5, "on top"),
    (check.mean_tokens, 1.75, "there is a third draft"),
    (check.mean_tokens, 2.0, "very large k"),
    (check.mean_tokens, 3.0, "add up the chances"),
    (check.residual, lambda p, q: (p - q).clamp(min=0), "must sum to 1"),
    (check.residual, lambda p, q: p, "too often"),
    (check.residual, lambda p, q: (p - q).abs() / (p - q).abs().sum(), "not the distance"),
    (check.residual, lambda p, q: p - q, "not negative"),
    (check.residual, lambda p, q: torch.tensor([0, 0.4, 0, 0.6, 0]), "renormalised"),
    (check.residual, lambda p, q: (p - q).clamp(min=0) / (p - q).clamp(min=0).sum(), "0 / 0"),
    (check.new_tokens, lambda d, c, end: d[:accepted(d, c)], "on top"),
    (check.new_tokens, lambda d, c, end: [a for a, b in zip(d, c) if a == b] + [c[-1]], "after the first mismatch"),
    (check.new_tokens, lambda d, c, end: d[:accepted(d, c)] + [c[accepted(d, c)]] if accepted(d, c) else [], "with no draft kept"),
    (check.new_tokens, lambda d, c, end: d[:accepted(d, c)] + [c[accepted(d, c)]], "nothing follows the end token"),
    (check.new_tokens, lambda d, c, end: None, "on top"),
    (check.look_up, lambda t, n, k: search(t, n, k, range(len(t) - n)), "the latest earlier place"),
    (check.look_up, lambda t, n, k: search(t, n, 99, range(len(t) - n - 1, -1, -1)), "at most k"),
    (check.look_up, lambda t, n, k: search(t, n, k, range(len(t) - n, -1, -1)), "5 6 stood at the start"),
    (check.look_up, lambda t, n, k: search(t, n, k, range(len(t) - n - 1, -1, -1)) or t[-1:], "no earlier place"),
    (check.is_lossless, lambda rule: True, "draws from p after a refusal: expected False"),
    (check.is_lossless, lambda rule: False, "the rule of section 2: expected True"),
    (check.is_lossless, lambda rule: rule is check._exact, "ignores the draft"),
    (check.is_lossless, only_means, "expected False, got True"),
]


@pytest.mark.parametrize("exercise, answer, message", WRONG, ids=[f"{fn.__name__}-{i}" for i, (fn, _, _) in enumerate(WRONG)])
def test_wrong_answers_are_rejected(exercise, answer, message, capsys):
    with pytest.raises(AssertionError) as raised:
        exercise(answer)
    assert message in str(raised.value)
    assert capsys.readouterr().out == ""


def test_passes_are_read_from_what_was_drafted():
    assert view.by_pass([False, True, True, False, False, True, False]) == [[0], [1, 2, 3], [4], [5, 6]]
    assert view.by_pass([False, True, True]) == [[0], [1, 2]], "an accepted draft ended the answer"


def test_the_view_escapes_and_colours():
    whole = view.coloured(["<a", " b", "\n"], [False, True, False])
    assert "&lt;a" in whole and "&nbsp;b" in whole and "<br>" in whole and whole.count(view.COLOURS[True]) == 1
    assert "&nbsp;b" not in view.coloured(["<a", " b", "\n"], [False, True, False], upto=1)
    both = view.side_by_side(["x", "y", "z"], [False, True, True], upto=2)
    assert both.count(">z<") == 1 and both.count(">y<") == 2, "after two passes plain has two tokens, the other all three"
