"""The checks of notebook 00 accept the solutions, know the stubs, and explain wrong answers."""
import math
import re
from pathlib import Path

import pytest
import torch

from notebook_cells import run_cells
from rftlab.checks import start_here

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = ["last_number_reward", "pass_at_k", "group_advantages"]


def test_solutions_pass_and_stubs_are_not_attempted():
    _, printed = run_cells(NOTEBOOKS / "solutions" / "00_start_here.ipynb")
    assert printed.splitlines() == ["rftlab is ready", *(f"passed: {name}" for name in NAMES)]
    _, printed = run_cells(NOTEBOOKS / "00_start_here.ipynb", lambda cell: "raise NotImplementedError" in cell.source,
                           {"checks": start_here})
    assert printed.splitlines() == [f"not attempted: {name}" for name in NAMES]


@pytest.mark.parametrize("answer, message", [
    (lambda text, right: float(right in text), "only the last number counts"),
    (lambda text, right: float(text.endswith(right)), "a full stop after it"),
    (lambda text, right: float((re.findall("[0-9]+", text) or ["x"])[0] == right), "a worked solution"),
    (lambda text, right: 1.0, "only the last number counts"),
    (lambda text, right: float(re.findall("[0-9]+$", text.rstrip(".")) == [right] and text != ""), "words may follow"),
    (lambda text, right: float((text.rstrip(".").split() or [""])[-1] == right), "words may follow"),
])
def test_wrong_verifiers(answer, message):
    with pytest.raises(AssertionError, match=message):
        start_here.last_number_reward(answer)


@pytest.mark.parametrize("answer, message", [
    (lambda n, c, k: 1 - (1 - c / n) ** k, "draws with replacement"),
    (lambda n, c, k: min(1, k * c / n), "C\\(n-c, k\\)"),
    (lambda n, c, k: math.comb(n - c, k) / math.comb(n, k), "C\\(n-c, k\\)"),
])
def test_wrong_pass_at_k(answer, message):
    with pytest.raises(AssertionError, match=message):
        start_here.pass_at_k(answer)


@pytest.mark.parametrize("answer, message", [
    (lambda r: r - r.mean(), "divide by the standard deviation"),
    (lambda r: (r - r.mean()) / (r.std(correction=0) + 1e-4), "n - 1 below the line"),
    (lambda r: (r - r.mean()) / r.std(), "numbers differ"),
    (lambda r: torch.softmax(r, 0), "numbers differ"),
])
def test_wrong_advantages(answer, message):
    with pytest.raises(AssertionError, match=message):
        start_here.group_advantages(answer)
