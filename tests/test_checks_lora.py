"""The checks of notebook 06 accept the solutions, know the stubs, and explain wrong answers."""
import functools
import re
from pathlib import Path

import pytest
import torch

import notebook_cells
from rftlab.checks import lora as check

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
EXERCISES = ["count", "merged_weight", "adapter_gradients", "quantise_blocks", "most_completions"]
run_cells = functools.partial(notebook_cells.run_cells, namespace={"check": check, "torch": torch})


def test_the_stubs_are_not_attempted():
    _, printed = run_cells(NOTEBOOKS / "06_lora.ipynb", lambda cell: re.search(r"\bcheck\.", cell.source))
    assert printed.splitlines() == [f"not attempted: {name}" for name in EXERCISES]


def test_the_solutions_pass():
    _, printed = run_cells(NOTEBOOKS / "solutions" / "06_lora.ipynb")
    assert [line for line in printed.splitlines() if "passed" in line or "attempted" in line] == [f"passed: {name}" for name in EXERCISES]


def in_place(W, A, B, alpha):
    return W.add_(alpha / len(A) * B @ A)


def through_the_big_one(X, G, A, B, scale):
    big = scale * G.T @ X
    return B.T @ big, big @ A.T


def blocks(weights, table, scale=lambda b: b.abs().max(1).values, guard=True):
    rows = weights.view(-1, 64)
    scales = scale(rows)
    scaled = rows / (torch.where(scales != 0, scales, 1) if guard else scales)[:, None]
    return (scaled[..., None] - table).abs().argmin(-1).flatten(), scales


WRONG = [
    (check.count, 106_496, "one block"), (check.count, 4_194_304, "1024 outputs"), (check.count, 1, "rank times"),
    (check.merged_weight, lambda W, A, B, alpha: W + alpha * B @ A, "divided by the rank"),
    (check.merged_weight, lambda W, A, B, alpha: alpha / len(A) * B @ A, "add W"),
    (check.merged_weight, lambda W, A, B, alpha: W + B @ A, "scale alpha / rank is missing"),
    (check.merged_weight, lambda W, A, B, alpha: W + alpha / A.shape[1] * B @ A, "rows of A"),
    (check.merged_weight, lambda W, A, B, alpha: W + alpha / len(W) * B @ A, "not of B"),
    (check.merged_weight, in_place, "return a new tensor"),
    (check.adapter_gradients, through_the_big_one, "as large as W"),
    (check.adapter_gradients, lambda X, G, A, B, scale: ((G @ B).T @ X, G.T @ (X @ A.T)), "scale is missing"),
    (check.adapter_gradients, lambda X, G, A, B, scale: scale * (G @ B).T @ X, "expected two tensors"),
    (check.adapter_gradients, lambda X, G, A, B, scale: (scale * (G @ B).T @ X, scale * (X @ A.T).T @ G), "the shape is"),
    (check.quantise_blocks, functools.partial(blocks, guard=False), "0 / 0"),
    (check.quantise_blocks, functools.partial(blocks, scale=lambda b: b.max(1).values), "negative weight"),
    (check.quantise_blocks, functools.partial(blocks, scale=lambda b: b.abs().max().expand(len(b))), "not one for all"),
    (check.quantise_blocks, lambda w, t: (torch.bucketize(torch.nan_to_num(w.view(-1, 64) / w.view(-1, 64).abs().max(1, True).values), t).flatten(),
                                          w.view(-1, 64).abs().max(1).values), "next level above"),
    (check.most_completions, lambda left, layers, heads, width, tokens=768: int(left // (layers * heads * width * tokens * 2)), "keys .and. values"),
    (check.most_completions, lambda left, layers, heads, width, tokens=768: left / (4 * layers * heads * width * tokens), "round down"),
    (check.most_completions, lambda left, layers, heads, width, tokens=768: int(left // (4 * layers * heads * width * 768)), "keys .and. values"),
    (check.most_completions, lambda left, layers, heads, width, tokens=768: 1 + int(left // (4 * layers * heads * width * tokens)), "does not fit"),
]


@pytest.mark.parametrize("one, answer, hint", WRONG, ids=range(len(WRONG)))
def test_a_wrong_answer_is_explained(one, answer, hint):
    with pytest.raises(AssertionError, match=hint):
        one(answer)
