"""Kernel tasks: their cases, when an answer counts as right, the errors, the data, the lint."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rftlab.kernels import KernelTask, lint, load_kernel_tasks
from rftlab.kernels.compare import is_lost, mismatch, tolerance
from rftlab.kernels.inputs import indices, one_sign, spread_out
from rftlab.kernels.mutants import mutants

DATA = Path(__file__).resolve().parents[1] / "data" / "kernels"
TRAIN, HELDOUT = load_kernel_tasks("train"), load_kernel_tasks("heldout")


def add(x, y):
    return x + y


ADD = KernelTask("add", add, [[(300,), (300,)], [(7, 33), (7, 33)]])


# The contract


def test_positional_form_and_defaults():
    task = KernelTask("sum", add, [[(3,), (3,)]], "plus", "def plus(x, y): return x + y", "float16")
    assert (task.entry, task.dtype, task.parameters) == ("plus", "float16", ("x", "y"))
    assert ADD.entry == "add" and ADD.dtype == "float32" and ADD.source == "def add(x, y):\n    return x + y\n"
    assert KernelTask("a", add, [[(3,), (3,)]], dtype=torch.bfloat16).dtype == "bfloat16"


def test_functions_of_torch_itself_are_taken():
    assert KernelTask("relu", torch.relu, [[(3, 5)]]).parameters == ("x",)
    softmax = KernelTask("softmax", torch.nn.functional.softmax, [[(3, 5), -1]], entry="softmax")
    assert softmax.parameters == ("input", "dim") and softmax.make_case(0, 0).inputs[1] == -1


def test_cases_repeat_and_differ_by_seed_case_and_task():
    once, again, other = ADD.make_case(0, 7), ADD.make_case(0, 7), ADD.make_case(0, 8)
    assert torch.equal(once.inputs[0], again.inputs[0]) and torch.equal(once.expected[0], again.expected[0])
    assert not torch.equal(once.inputs[0], other.inputs[0]) and not torch.equal(once.inputs[0], once.inputs[1])
    renamed = KernelTask("add2", add, ADD.shapes)
    assert not torch.equal(renamed.make_case(0, 7).inputs[0], once.inputs[0])
    with pytest.raises(IndexError, match="cases 0 to 1, not 2"):
        ADD.make_case(2, 0)


def test_reference_cannot_spoil_the_inputs():
    task = KernelTask("in_place", lambda x: x.mul_(2), [[(40,)]], entry="double")
    case = task.make_case(0, 0)
    assert torch.equal(case.expected[0], case.inputs[0] * 2)


def test_large_case_and_its_choice():
    case = ADD.make_case(1, 0)
    assert ADD.scales == (1.0, 100.0)
    share = (case.inputs[0][0].abs() > 5).double().mean()
    assert 0.1 < share < 0.4, "a quarter of the first row grows, the others stay"
    assert KernelTask("exp", torch.exp, [[(50,)], [(300,)]], entry="exp").scales == (1.0, 10.0), "exp(100 x) overflows"
    assert KernelTask("one", add, [[(9,), (9,)]]).scales == (1.0,), "a single case stays plain"


def test_strided_cases_have_the_values_but_not_the_layout():
    task = KernelTask("add", add, [[(9,), (9,)], [(7, 33), (7, 33)], [(1, 1), (1, 1)], [(1, 8), (1, 8)]], strided=(0, 1, 2, 3))
    for index in (0, 1, 3):
        x, y = task.make_case(index, 0).inputs
        assert not x.is_contiguous() and not y.is_contiguous()
    x, y = task.make_case(1, 0).inputs
    assert x.stride() == (66, 2) and y.stride() == (1, 7), "layouts differ, so that none can be taken for granted"
    assert task.make_case(2, 0).inputs[0].is_contiguous(), "one element has only one layout"


@given(st.lists(st.integers(1, 5), min_size=0, max_size=4), st.booleans())
def test_spread_out_keeps_values_and_shape(shape, gaps):
    tensor = torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)
    spread = spread_out(tensor, gaps)
    assert torch.equal(spread, tensor)
    assert spread.is_contiguous() == (tensor.numel() < 2)


@pytest.mark.parametrize("values, gaps", [
    (torch.tensor([[0.0, 2.0], [-1.0, 0.5]]), [[1, 7], [-2, 2.5]]),
    (torch.tensor([[True, False], [True, True]]), [[False, True], [False, False]]),
    (torch.tensor([[3, 4], [5, 6]]), [[6, 3], [4, 5]]),  # an index stays one
    (torch.tensor([[3], [4]], dtype=torch.int8), [[4], [3]]),
])  # fmt: skip
def test_gaps_hold_other_values(values, gaps):
    wide = spread_out(values, gaps=True)
    memory = wide.as_strided((*wide.shape[:-1], 2 * wide.shape[-1]), (2 * wide.shape[-1], 1))
    assert memory.dtype == values.dtype and torch.equal(memory[..., ::2], values) and memory[..., 1::2].tolist() == gaps


def test_all_rows_but_the_first_of_a_large_case_are_large():
    task = KernelTask("row_max", lambda x: x.amax(dim=-1), [[(9,)], [(5, 13)]], entry="row_max")
    small, large = (task.draw(1, torch.Generator().manual_seed(0), scale)[0] for scale in (1.0, 100.0))
    grown = (large / small).round()
    assert (grown[1:] == 100).all() and set(grown[0].tolist()) == {1.0, 100.0}
    flat = task.draw(0, torch.Generator().manual_seed(0), 100.0)[0] / task.draw(0, torch.Generator().manual_seed(0), 1.0)[0]
    assert set(flat.round().tolist()) == {1.0, 100.0}


def test_rows_of_one_sign_by_hand():
    values = torch.tensor([[1.0, -2.0]] * 5)
    assert one_sign(values, 0).tolist() == [[1, -2], [2, 3], [-4, -5], [-1, -2], [1, 2]]
    assert one_sign(values, 1).tolist() == [[1, -2], [1, 2], [-1, -2], [1, 2], [-1, -2]]
    assert one_sign(values[0], 0).tolist() == [1, -2] and one_sign(values.reshape(5, 1, 2), 0).shape == (5, 1, 2)


def test_a_maximum_that_pads_its_rows_by_zero_is_noticed():
    from rftlab.kernels import functions

    found = [t for t in functions.draw(60, "train", 0, ("reduction",), most=2) if "amax" in t.source]
    for task in found:
        columns = task.shapes[0][0][1]
        assert columns & (columns - 1), "the row must have lanes past its end"
        noticed = bool((task.make_case(0, 0).expected[0] < 0).any())  # padding by 0 gives 0 there
        many = [torch.randn(20_000, 1, generator=torch.Generator().manual_seed(i)) * 3 for i in range(len(task.parameters))]
        assert noticed == bool((task.reference(*many) < 0).any()) or re.search(r"(1.5|2.0|3.0) - ", task.source), task.source
    assert len(found) >= 10


def test_index_inputs_stay_in_range_and_positive_inputs_positive():
    take = KernelTask("take", lambda x, i: x[i], [[(5,), (400,)]], entry="take", inputs={"i": indices(into=0)})
    index = take.make_case(0, 3).inputs[1]
    assert index.dtype == torch.int64 and int(index.min()) == 0 and int(index.max()) == 4
    log = KernelTask("log", lambda x: torch.log(x), [[(400,)], [(400,)]], entry="log", inputs={"x": "positive"})
    assert float(log.make_case(1, 0).inputs[0].min()) >= 0.1


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8"])
def test_dtypes(dtype):
    case = KernelTask("add", add, [[(50,), (50,)]], dtype=dtype).make_case(0, 0)
    assert str(case.inputs[0].dtype) == str(case.expected[0].dtype) == f"torch.{dtype}"
    assert case.tolerances[0].dtype == torch.float64 and case.tolerances[0].shape == (50,)
    assert mismatch(case.expected[0], case.expected[0], case.tolerances[0]) == ""


def test_several_results():
    task = KernelTask("min_max", lambda x: (x.amin(-1), x.amax(-1)), [[(4, 9)]], entry="min_max")
    case = task.make_case(0, 0)
    assert case.is_tuple and [e.shape for e in case.expected] == [(4,), (4,)]
    assert not ADD.make_case(0, 0).is_tuple


def test_prompt_says_what_is_wanted():
    prompt = KernelTask("s", torch.nn.functional.softmax, [[(4, 9), -1], [(3, 4, 9), -1]], "softmax", strided=(0,)).prompt()
    for words in ("`softmax(input, dim)`", "input: a 2-D or 3-D float32 tensor", "dim: a Python int", "need not be contiguous", "@triton.jit", "```python"):
        assert words in prompt
    assert "def add(x, y):\n    return x + y\n```" in ADD.prompt() and "contiguous." not in ADD.prompt().split("Answer")[0]
    namespace = {}
    exec("def f(x): return x * 2", namespace)
    with pytest.raises(ValueError, match="give it as source="):
        KernelTask("f", namespace["f"], [[(3,)]]).prompt()


# What cannot work


def broken(x):
    raise RuntimeError("boom")


REFUSED = {
    "no shapes": (dict(shapes=[]), "needs test cases"),
    "no shapes at all": (dict(shapes=None), "needs test cases"),
    "a shape for a case": (dict(shapes=[(300,), (300,)]), r"write one list per case"),
    "a single number": (dict(shapes=[300]), "expected a list with one shape tuple per parameter"),
    "an empty case": (dict(shapes=[[]]), "expected a list with one shape tuple per parameter"),
    "too few parameters": (dict(shapes=[[(3,)]]), r"the cases have 1 arguments, but the reference takes \(x, y\)"),
    "too many parameters": (dict(shapes=[[(3,), (3,), (3,)]]), "give one shape per parameter"),
    "ragged cases": (dict(shapes=[[(3,), (3,)], [(3,)]]), "all cases need the same parameters"),
    "size 0": (dict(shapes=[[(0,), (0,)]]), "an empty answer is always right"),
    "a negative size": (dict(shapes=[[(-1,), (-1,)]]), "sizes must be at least 1"),
    "a fraction for a size": (dict(shapes=[[(3.5,), (3.5,)]]), r"expected a shape such as \(7, 33\)"),
    "no tensor": (dict(shapes=[[1, 2]]), "has no tensor"),
    "shapes that do not fit": (dict(shapes=[[(3,), (4,)]]), r"the reference raised RuntimeError on \[\(3,\), \(4,\)\]"),
    "unknown dtype": (dict(dtype="float8"), "unknown dtype 'float8'; expected one of float32"),
    "complex dtype": (dict(dtype="complex64"), "complex numbers do not exist in Triton"),
    "complex answer": (dict(reference=lambda x, y: torch.complex(x, y), entry="f"), "returned torch.complex64"),
    "lambda without entry": (dict(reference=lambda x, y: x + y), "say which function a completion must define"),
    "not a function": (dict(reference=3), "reference must be a function on tensors, got int"),
    "entry is no name": (dict(entry="a b"), "is not a name that a Python function can have"),
    "entry is a keyword": (dict(entry="class"), "is not a name that a Python function can have"),
    "reference raises": (dict(reference=broken, shapes=[[(3,)]]), "the reference raised RuntimeError .*boom"),
    "a number comes out": (dict(reference=lambda x, y: float((x + y).sum()), entry="f"), "returned float, expected a tensor"),
    "nothing comes out": (dict(reference=lambda x, y: None, entry="f"), "returned NoneType"),
    "an empty tuple": (dict(reference=lambda x, y: (), entry="f"), "returned NoneType, expected a tensor or a tuple"),
    "an empty tensor": (dict(reference=lambda x, y: (x + y)[:0], entry="f"), "returned an empty tensor"),
    "a sparse tensor": (dict(reference=lambda x, y: (x + y).to_sparse(), entry="f"), "expected a dense one on the CPU"),
    "an input is ignored": (dict(reference=lambda x, y: x * 2, entry="f"), "does not depend on the values of y"),
    "a constant": (dict(reference=lambda x, y: torch.zeros_like(x), entry="f"), "does not depend on the values of x, y"),
    "random": (dict(reference=lambda x, y: x + y * torch.rand_like(x), entry="f"), "another answer each time"),
    "logarithms of negative numbers": (dict(reference=lambda x, y: torch.log(x) + y, entry="f"), "choose inputs="),
    "an unknown kind of input": (dict(inputs={"x": "negative"}), "expected a function or one of normal, positive"),
    "inputs for nobody": (dict(inputs={"z": "normal"}), "the parameters are x, y"),
    "scales for other cases": (dict(scales=(1.0, 2.0)), "2 scales for 1 cases"),
    "strided cases that are none": (dict(strided=(4,)), "the cases are 0 to 0"),
}


@pytest.mark.parametrize("options, message", REFUSED.values(), ids=REFUSED)
def test_refuses_with_a_reason(options, message):
    with pytest.raises(ValueError, match=message):
        KernelTask(**{"name": "task", "reference": add, "shapes": [[(300,), (300,)]], **options})


# When an answer counts as right


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_size_of_the_answers_does_not_matter(size):
    task = KernelTask("scaled", lambda x: x * size, [[(300,)]], entry="scaled", scales=(1.0,))
    case = task.make_case(0, 0)
    right, (allowed,) = case.expected[0], case.tolerances
    assert mismatch(right * (1 + 2e-6), right, allowed) == ""
    for wrong in (torch.zeros_like(right), right * 1.001, -right, right.roll(1), (right / size).half().float() * size):
        assert "values are wrong" in mismatch(wrong, right, allowed)


def test_mismatch_by_hand():
    right = torch.tensor([1.0, 2.0, 0.0, 4.0])
    allowed = tolerance(right, torch.zeros(4))
    torch.testing.assert_close(allowed, torch.tensor([1.2e-4, 2.2e-4, 2e-5, 4.2e-4], dtype=torch.float64))
    assert mismatch(right + allowed * 0.9, right, allowed) == "the result is float64, expected float32"
    assert mismatch((right + allowed * 0.9).float(), right, allowed) == ""
    assert mismatch(torch.tensor([1.0, 2.1, 0.0, 4.1]), right, allowed) == "2 of 4 values are wrong, the first at index 1"
    assert mismatch(right.reshape(2, 2), right, allowed) == "the result has shape (2, 2), expected (4,)"
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert mismatch(torch.tensor([1.0, bad, 0.0, 4.0]), right, allowed) == "1 of 4 values are not finite"
    whole = torch.tensor([2**60, 1])
    assert mismatch(whole + torch.tensor([1, 0]), whole, tolerance(whole, torch.zeros(2))) == "1 of 2 values are wrong, the first at index 0"


def test_a_sum_that_cancels_is_not_held_to_impossible_digits():
    task = KernelTask("total", lambda x: x.sum().reshape(1), [[(300,)]], entry="total")
    for seed in range(200):
        case = task.make_case(0, seed)
        x = case.inputs[0]
        other_order = x.flip(0).cumsum(0)[-1:]  # one by one, from the end
        assert mismatch(other_order, case.expected[0], case.tolerances[0]) == "", seed


def test_lost_answers_by_hand():
    expected = torch.tensor([100.0, 1.0, 1.0, 1e-9, 0.0])  # of those that are not zero the median is 1
    noise = torch.tensor([1.0, 0.021, 0.019, 0.019, 0.021])
    assert is_lost(noise, expected).tolist() == [False, True, False, False, True]
    assert is_lost(noise, expected.double()).any() and not is_lost(noise, expected.half()).any() and not is_lost(noise, expected.int()).any()


def test_an_answer_whose_digits_are_lost_is_not_judged_by_luck():
    task = KernelTask("chaotic", lambda x: torch.sin(torch.exp(x)), [[(130,)], [(1,)], [(7, 33)]], entry="chaotic")
    for seed in range(60):
        case = task.make_case(2, seed)
        x, (expected,), (allowed,) = case.inputs[0], case.expected, case.tolerances
        rounded_otherwise = torch.sin(torch.exp(x.double()).float())
        assert mismatch(rounded_otherwise, expected, allowed) == "", seed
        assert allowed[x.abs() < 2].max() < 1e-3 and mismatch(torch.sin(1.001 * torch.exp(x)), expected, allowed)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_honest_arithmetic_in_another_order_always_passes(seed):
    for task, other in (
        (ADD, lambda x, y: y + x),
        (KernelTask("tanh", torch.tanh, [[(300,)], [(300,)]], "tanh"), lambda x: 2 / (1 + torch.exp(-2 * x)) - 1),
        (KernelTask("matmul", torch.matmul, [[(9, 65), (65, 7)]], "matmul"), lambda a, b: (a[:, :, None] * b).flip(1).sum(1)),
        (KernelTask("softmax", lambda x: x.softmax(-1), [[(5, 37)], [(5, 37)]], "softmax"), lambda x: (x - x.logsumexp(-1, True)).exp()),
    ):
        for index in range(len(task.shapes)):
            case = task.make_case(index, seed)
            assert mismatch(other(*case.inputs), case.expected[0], case.tolerances[0]) == "", task.name


# The data


def test_splits():
    assert len(TRAIN) == 13 and len(HELDOUT) >= 24
    names = Counter(task.name for task in TRAIN + HELDOUT)
    assert set(names.values()) == {1}, "no task in both splits"
    references = Counter(task.source.split("return ", 1)[1] for task in TRAIN + HELDOUT)
    assert set(references.values()) == {1}, "no function in both splits under another name"
    with pytest.raises(ValueError, match="unknown split 'test'; the splits are: train, heldout"):
        load_kernel_tasks("test")


@pytest.mark.parametrize("tasks", [TRAIN, HELDOUT], ids=["train", "heldout"])
def test_data_spreads_over_families_shapes_and_dtypes(tasks):
    assert {task.family for task in tasks} == {"element-wise", "activation", "reduction", "matrix", "indexing"}
    for task in tasks:
        assert task.entry == task.name and f"def {task.entry}(" in task.kernel and "@triton.jit" in task.kernel
        cases = [task.make_case(index, 0) for index in range(len(task.shapes))]
        elements = [max(t.numel() for t in [*case.inputs, *case.expected] if torch.is_tensor(t)) for case in cases]
        assert min(elements) == 1 and 100 <= max(elements) <= 900, "small enough to interpret, large enough for several programs"
    assert any(task.strided for task in tasks) and any("tl.dot" in task.kernel for task in tasks)
    kinds = {task.dtype for task in TRAIN + HELDOUT}
    assert {"float32", "float16", "bfloat16"} <= kinds


def test_reading_the_list_does_not_read_the_tasks():
    import subprocess
    import sys

    code = "import sys, rftlab.kernels; assert not {'torch', 'triton', 'rftlab.kernels.tasks'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("task", TRAIN + HELDOUT, ids=lambda task: task.name)
def test_every_task_is_sound(task):
    assert lint(task) == []


# The lint


UNSOUND = {
    "copied input": (dict(reference=lambda x: x * 1, shapes=[[(37,)], [(1,)]]), "a copy of x would pass"),
    "constant answers": (dict(reference=lambda x: x.softmax(-1).sum(-1), shapes=[[(5, 37)], [(3, 64)]]), "ones would pass"),
    "a mean of all but equal values": (dict(reference=lambda x: 1e5 + x, shapes=[[(37,)], [(40,)]]), "a constant is nearly right"),
    "equal rows": (dict(reference=lambda x: x.sum().expand(37).contiguous(), shapes=[[(300,)], [(40,)]]), "the mean of the right values"),
    "one shape": (dict(reference=lambda x: x * 2, shapes=[[(37,)], [(37,)]]), "all cases have the same shapes"),
    "no odd size": (dict(reference=lambda x: x * 2, shapes=[[(32,)], [(64, 16)]]), "all sizes are multiples of 16"),
    "no single element": (dict(reference=lambda x: x * 2, shapes=[[(37,)], [(64,)]]), "no case is of size 1"),
    "no large values": (dict(reference=lambda x: x * 2, shapes=[[(37,)]]), "no case has large magnitudes"),
    "a number that does not matter": (dict(reference=lambda x, k: x * 2 + 0 * k, shapes=[[(37,), 2], [(1,), 3]]), "does not depend on k"),
    "digits lost": (dict(reference=lambda x: torch.sin(1e6 * x), shapes=[[(37,)], [(1,)]]), "loses its digits"),
}


@pytest.mark.parametrize("options, message", UNSOUND.values(), ids=UNSOUND)
def test_lint_finds(options, message):
    assert any(message in finding for finding in lint(KernelTask("task", entry="task", **options)))


def test_mutants_are_programs_that_differ_in_one_place():
    code = next(task for task in TRAIN if task.name == "softmax").kernel
    made = list(mutants(code))
    assert len(made) > 30 and len({mutant.code for mutant in made}) == len(made)
    changes = {mutant.change for mutant in made}
    for change in ("tl.max(x, axis=0) -> tl.min(x, axis=0)", "column < columns -> column <= columns", "x - tl.max(x, axis=0) -> x", "return out -> return x"):
        assert change in changes
    assert any(mutant.change.startswith("-float('inf') -> 0.0") for mutant in made), "a maximum that pads by 0"
    for mutant in made:
        compile(mutant.code, "mutant", "exec")


def test_lint_record():
    record = json.loads((DATA / "lint.json").read_text())
    assert set(record["tasks"]) == {task.name for task in TRAIN + HELDOUT}
    for name, one in record["tasks"].items():
        assert one["findings"] == [] and one["score"] >= 0.95, name
        assert one["score"] == pytest.approx(one["killed"] / (one["killed"] + len(one["survived"])), abs=1e-4)
        assert one["killed"] >= 10, "a score over a handful of mutants says nothing"
    kernels = {task.name: len(list(mutants(task.kernel))) for task in TRAIN}
    for name, count in kernels.items():
        one = record["tasks"][name]
        assert one["killed"] + len(one["survived"]) + len(one["equivalent"]) == count, f"{name}: the kernel changed, write the record anew"
