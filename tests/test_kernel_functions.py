"""Composed kernel tasks: solvable, different, on their own side of the split, and none of the course's own."""
import pytest
import torch

from rftlab.kernels import KernelGrader, functions, load_kernel_tasks
from rftlab.tasks import split_of


@pytest.fixture(scope="module")
def drawn():
    return {split: functions.draw(12, split) for split in ("train", "validation", "test")}


def prints(tasks):
    return [functions.fingerprint(t.reference, len(t.parameters)) for t in tasks]


def test_every_function_is_new_and_on_its_side(drawn):
    seen = {split: prints(tasks) for split, tasks in drawn.items()}
    everything = [p for some in seen.values() for p in some]
    assert len(set(everything)) == len(everything) == 36
    assert all(split_of(p) == split for split, some in seen.items() for p in some)
    assert not set(everything) & functions.taken()
    assert len(functions.taken()) > 25  # those of the course's functions that take tensors of one shape


def test_the_same_seed_gives_the_same_functions_and_fewer_are_the_first(drawn):
    assert [t.source for t in functions.draw(5, "train")] == [t.source for t in drawn["train"][:5]]
    assert [t.source for t in functions.draw(5, "train", seed=1)] != [t.source for t in drawn["train"][:5]]


def test_a_maximum_padded_by_zero_is_noticed():
    """Four composed maxima that are negative all along a row only where the whole row is large, beside padding lanes."""
    wanted = ("(0.5 - (x * y))", "(0.5 - (x - y))", "(3.0 - torch.maximum(x, y))", "torch.where((2.0 - (x + y)) > 0, (2.0 - (x + y)), 0.1 * (2.0 - (x + y)))")
    tasks = [t for t in functions.draw(60, "test", 0, ("reduction",)) if t.source.split("return ")[1].strip().removesuffix(".amax(dim=-1)") in wanted]
    assert len(tasks) == 4
    with KernelGrader() as grader:
        for padding, score in (("0.0", 0.6), ('-float("inf")', 1.0)):
            programs = ["```python\n" + t.kernel.replace('-float("inf")', padding) + "```" for t in tasks]
            assert [g.score for g in grader.grade(programs, tasks)] == [score] * 4


def test_families_come_in_turn(drawn):
    assert [t.family for t in drawn["test"][:6]] == list(functions.FAMILIES) * 2
    assert {t.family for t in functions.draw(4, "test", families=("reduction",))} == {"reduction"}


@pytest.mark.parametrize("source, count", [
    ("def fused(x):\n    return x * 0.5\n", 1), ("def fused(x, y):\n    return torch.relu(x + y)\n", 2),
    ("def fused(x, y):\n    return torch.maximum(x, y).sum(dim=-1)\n", 2), ("def fused(x):\n    return -x * -0.5\n", 2),
    ("def fused(x):\n    return torch.where(x > 0, x, 0.1 * x)\n", 3), ("def fused(x):\n    return x\n", 0)])
def test_operations_are_counted(source, count):
    assert functions.operations(source) == count


def test_simple_functions_can_be_asked_for(drawn):
    simple = functions.draw(40, "train", 0, most=2)
    assert max(functions.operations(t.source) for t in simple) == 2 < max(functions.operations(t.source) for t in drawn["train"])
    assert {t.family for t in simple} == set(functions.FAMILIES)


def test_fingerprints_say_what_is_computed():
    one, other = (functions._compiled(f"def fused(x, y):\n    return {text}\n") for text in ("x + y * 2.0", "2.0 * y + x"))
    third = functions._compiled("def fused(x, y):\n    return x + y * 2.1\n")
    assert functions.fingerprint(one, 2) == functions.fingerprint(other, 2) != functions.fingerprint(third, 2)
    assert functions.fingerprint(torch.matmul, 2) is None


def test_operands_keep_their_meaning():
    """The PyTorch text of an expression, with and without our choice of parentheses, computes what its Triton twin says."""
    assert functions._operand("x + y", "{a} * {b}") == "(x + y)" and functions._operand("torch.relu(x)", "{a} * {b}") == "torch.relu(x)"
    assert functions._operand("torch.relu(x) + tl.abs(y)", "{a} * {b}") == "(torch.relu(x) + tl.abs(y))"
    assert functions._operand("x + y", "torch.abs({a})") == "x + y"


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="expected some of element-wise, activation, reduction"):
        functions.draw(3, families=("matrix",))
    with pytest.raises(ValueError, match="expected some of"):
        functions.draw(3, split="heldout")
    with pytest.raises(ValueError):
        functions.task("def fused(x, y):\n    return x\n")  # y does not matter: nothing to grade


def test_a_reader_types_a_function():
    task = functions.task("def fused(x, y):\n    return torch.relu(x - y)\n")
    assert task.entry == "fused" and len(task.shapes) == 3 and task.name not in {t.name for t in load_kernel_tasks("heldout")}
