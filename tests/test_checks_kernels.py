"""The checks of notebooks 08 and 09 accept the solutions, know the stubs, and explain wrong answers.

Triton interprets or compiles from its import on, so everything that interprets happens in one other process.
"""
import contextlib
import io
import linecache
import os
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
PUZZLES = ["relu_add", "outer", "softmax", "matmul", "long_softmax"]


def interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="module")
def interpreter():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=interpret) as pool:
        yield lambda *arguments: pool.submit(check_kernel, *arguments).result(timeout=300)


def check_kernel(name: str, source: str) -> str:
    """What the check of this name says about the kernel in `source`: printed, or the message of its AssertionError."""
    import torch
    import triton
    import triton.language as tl

    from rftlab.checks import triton_kernels

    file = f"<answer {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    namespace, printed = {"torch": torch, "triton": triton, "tl": tl}, io.StringIO()
    exec(compile(source, file, "exec"), namespace)
    try:
        with contextlib.redirect_stdout(printed):
            getattr(triton_kernels, name)(namespace[name])
    except AssertionError as error:
        return str(error)
    return printed.getvalue().strip()


def cells(path: str) -> list[str]:
    notebook = nbformat.read(NOTEBOOKS / path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def kernel_source(path: str, name: str) -> str:
    """The cell that defines kernel `name`, up to its check."""
    cell = next(source for source in cells(path) if f"def {name}(" in source)
    return re.search(rf"@triton\.jit\ndef {name}\(.*?(?=\n\n\n|\Z)", cell, re.DOTALL)[0] + "\n"


# ---- notebook 08 ----

@pytest.mark.parametrize("name", PUZZLES)
def test_a_puzzle_accepts_its_solution(interpreter, name):
    assert interpreter(name, kernel_source("solutions/08_triton_kernels.ipynb", name)) == f"passed: {name}"


@pytest.mark.parametrize("name", PUZZLES)
def test_the_stub_of_a_puzzle_is_not_attempted(interpreter, name):
    assert interpreter(name, kernel_source("08_triton_kernels.ipynb", name)) == f"not attempted: {name}"


@pytest.mark.parametrize("name", PUZZLES)
def test_the_solutions_say_passed_in_the_recorded_notebook(name):
    assert any(f"check.{name}(" in source for source in cells("solutions/08_triton_kernels.ipynb"))


# (puzzle, what stands in the solution, what stands there instead, part of the message)
WRONG = [
    ("relu_add", "tl.maximum(total, 0.0)", "total", "relu is missing"),
    ("relu_add", "total = tl.load(x_ptr + i, mask=mask) + tl.load(y_ptr + i, mask=mask)",
     "total = tl.maximum(tl.load(x_ptr + i, mask=mask), 0.0) + tl.maximum(tl.load(y_ptr + i, mask=mask), 0.0)", "relu of the sum"),
    ("relu_add", "mask = i < n", "mask = i < n + BLOCK", "lie outside"),
    ("relu_add", "mask = i < n", "mask = i <= n", "lie outside"),
    ("relu_add", "tl.program_id(0) * BLOCK + ", "", "never stored"),
    ("relu_add", "tl.maximum(total, 0.0), mask=mask)", "tl.maximum(total, 0.0), mask=i < n - 1)", "never stored"),
    ("relu_add", "tl.store(out_ptr + i, tl.maximum(total, 0.0), mask=mask)",
     "tl.store(out_ptr + i, tl.maximum(total, 0.0), mask=mask)\n    tl.store(x_ptr + i, total, mask=mask)", "an input was changed"),
    ("relu_add", "tl.store(out_ptr + i, tl.maximum(total, 0.0)", "total.handle.data = total.handle.data.clip(0)\n    tl.store(out_ptr + i, total",
     "does not compile"),
    ("outer", "i[:, None] * N", "i[:, None] * M", "never stored|lie outside|several"),
    ("outer", "x[:, None] * y[None, :]", "x[:, None] + y[None, :]", "the product, not the sum"),
    ("outer", "mask=i < M", "mask=i < N", "lie outside|NaN"),
    ("outer", "mask = (i[:, None] < M) & (j[None, :] < N)", "mask = (i[:, None] < M) & (j[None, :] <= N)", "lie outside|several|NaN"),
    ("outer", "tl.program_id(1)", "tl.program_id(0)", "never stored"),
    ("softmax", 'other=-float("inf")', "other=0.0", "the numbers differ"),
    ("softmax", ', other=-float("inf")', "", "NaN in the output"),
    ("softmax", "tl.exp(x - tl.max(x, axis=0))", "tl.exp(x)", "a sum has overflowed"),
    ("softmax", "e / tl.sum(e, axis=0)", "e", "differ"),
    ("softmax", "x_ptr + row * N", "x_ptr + row * BLOCK", "lie outside|differ|NaN"),
    ("softmax", "row = tl.program_id(0)", "row = 0", "never stored|several"),
    ("matmul", "range(0, K, BLOCK)", "range(0, BLOCK, BLOCK)", "only the first block"),
    ("matmul", "range(0, K, BLOCK)", "range(0, K - BLOCK + 1, BLOCK)", "differ"),
    ("matmul", "mask=(i < M) & (across < K), other=0.0)", "mask=(i < M) & (across < K))", "NaN"),
    ("matmul", "mask=(i < M) & (across < K)", "mask=(i < M)", "lie outside|differ|NaN"),
    ("matmul", "acc += tl.dot", "acc = tl.dot", "differ"),
    ("matmul", "down * N", "down * K", "lie outside|differ|NaN"),
    ("long_softmax", "total * tl.exp(top - higher) + ", "total + ", "differ"),
    ("long_softmax", "j = start + tl.arange(0, BLOCK)", "j = tl.arange(0, BLOCK)", "never stored|several"),
    ("long_softmax", "    for start in range(0, N, BLOCK):\n        j = start + tl.arange(0, BLOCK)\n        x = tl.load(x_ptr + row * N + j, mask=j < N, "
     'other=-float("inf"))\n        higher', "    for start in range(0, N, BLOCK):\n        j = start + tl.arange(0, BLOCK)\n"
     '        x = tl.load(x_ptr + row * N + j, mask=j < N, other=-float("inf"))\n'
     '        x = tl.load(x_ptr + row * N + j, mask=j < N, other=-float("inf"))\n        higher', "elements of x are read"),
]


@pytest.mark.parametrize("name, old, new, message", WRONG, ids=range(len(WRONG)))
def test_a_wrong_kernel_is_told_what_is_wrong(interpreter, name, old, new, message):
    solution = kernel_source("solutions/08_triton_kernels.ipynb", name)
    assert old in solution
    assert re.search(message, interpreter(name, solution.replace(old, new)))


@pytest.mark.parametrize("name, old, new", [
    ("relu_add", "tl.maximum(total, 0.0)", "tl.where(total > 0, total, 0.0)"),
    ("relu_add", "mask = i < n", "mask = i + 1 <= n"),
    ("outer", "mask=i < M)", "mask=i < M, other=0.0)"),
    ("softmax", "e / tl.sum(e, axis=0)", "tl.exp(x - tl.max(x, axis=0) - tl.log(tl.sum(e, axis=0)))"),
    ("matmul", 'tl.dot(a, b, input_precision="ieee")', "tl.sum(a[:, :, None] * b[None, :, :], axis=1)"),
])
def test_another_right_kernel_passes(interpreter, name, old, new):
    solution = kernel_source("solutions/08_triton_kernels.ipynb", name)
    assert old in solution
    assert interpreter(name, solution.replace(old, new)) == f"passed: {name}"


def test_a_function_without_the_decorator_is_recognised(interpreter):
    source = kernel_source("solutions/08_triton_kernels.ipynb", "outer").removeprefix("@triton.jit\n")
    assert "the line above `def` is @triton.jit" in interpreter("outer", source)
