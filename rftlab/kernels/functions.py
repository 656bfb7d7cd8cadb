"""Fresh kernel tasks without end: PyTorch functions composed at random, each with a Triton kernel that solves it.

A function is an expression of one to three tensors, built from element-wise operations and activations; in the family
"reduction" each row of it is then summed, averaged, or searched for its maximum. Split by what a function computes, not by
its text: `x + y` and `y + x` are never on different sides, and nothing here computes what one of the course's tasks does.
"""
import ast
import functools
import hashlib
import random

import torch

from rftlab.kernels.tasks import SPLITS, KernelTask, load_kernel_tasks
from rftlab.tasks import split_of

FAMILIES = ("element-wise", "activation", "reduction")
ENTRY = "fused"
CONSTANTS = ("0.1", "0.5", "1.0", "1.5", "2.0", "3.0")
# name -> (PyTorch, Triton); {a} and {b} are operands in parentheses where they need them
BINARY = {"add": ("{a} + {b}",) * 2, "sub": ("{a} - {b}",) * 2, "mul": ("{a} * {b}",) * 2,
          "maximum": ("torch.maximum({a}, {b})", "tl.maximum({a}, {b})"), "minimum": ("torch.minimum({a}, {b})", "tl.minimum({a}, {b})")}
WITH_CONSTANT = ("{a} * {c}", "{a} + {c}", "{a} - {c}", "{c} - {a}", "{a} / {c}")  # the same text in both languages
UNARY = {"neg": ("-{a}",) * 2, "abs": ("torch.abs({a})", "tl.abs({a})"), "square": ("{a} * {a}",) * 2}
ACTIVATIONS = {"relu": ("torch.relu({a})", "tl.maximum({a}, 0.0)"),
               "sigmoid": ("torch.sigmoid({a})", "1.0 / (1.0 + tl.exp(-{a}))"),
               "exp": ("torch.exp({a})", "tl.exp({a})"),
               "sin": ("torch.sin({a})", "tl.sin({a})"),
               "root": ("torch.sqrt(torch.abs({a}))", "tl.sqrt(tl.abs({a}))"),
               "leaky": ("torch.where({a} > 0, {a}, 0.1 * {a})", "tl.where({a} > 0, {a}, 0.1 * {a})"),
               "cap": ("torch.clamp({a}, max=1.0)", "tl.minimum({a}, 1.0)")}
REDUCTIONS = {"sum": ("0.0", "tl.sum({v}, axis=0)"), "mean": ("0.0", "tl.sum({v}, axis=0) / columns"),
              "amax": ('-float("inf")', "tl.max({v}, axis=0)")}
FLAT = [(130,), (1,), (7, 33)]
ROWS = [(5, 37), (1, 1), (5, 13)]  # no power of two, so that padding lanes are there in the large case too

KERNEL = """\
import torch
import triton
import triton.language as tl


@triton.jit
def fused_kernel({pointers}, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
{loads}
    tl.store(out_ptr + offsets, {value}, mask=mask)


def fused({names}):
    out = torch.empty_like({first})
    n = out.numel()
    fused_kernel[(triton.cdiv(n, 64),)]({arguments}, out, n, BLOCK=64)
    return out
"""
ROW_KERNEL = """\
import torch
import triton
import triton.language as tl


@triton.jit
def fused_kernel({pointers}, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    mask = column < columns
{loads}
    value = tl.where(mask, {value}, {padding})
    tl.store(out_ptr + row, {reduced})


def fused({names}):
    rows, columns = {first}.shape
    out = torch.empty(rows, dtype={first}.dtype, device={first}.device)
    fused_kernel[(rows,)]({arguments}, out, columns, BLOCK=triton.next_power_of_2(columns))
    return out
"""


def draw(n: int, split: str = "train", seed: int = 0, families=FAMILIES, most: int | None = None) -> list[KernelTask]:
    """n different tasks of the split "train", "validation" or "test", the families in turn; a smaller n gives the first of them.

    most: only functions of so many operations, or fewer, for a model that solves no others yet. Raises ValueError for an unknown family or split, and when so many different ones were not found.
    """
    unknown = set(families) - set(FAMILIES)
    if unknown or not families or split not in ("train", "validation", "test"):
        raise ValueError(f"families={families!r}, split={split!r}: expected some of {', '.join(FAMILIES)}, and train, validation or test")
    rng, found, tries = random.Random(f"kernel functions {split} {seed}"), {}, 0
    while len(found) < n:
        tries += 1
        if tries > 200 * n + 2000:
            raise ValueError(f"found only {len(found)} of {n} different {split} functions; ask for fewer, or for more families")
        family = families[len(found) % len(families)]
        source, kernel = _compose(rng, family)
        if most is not None and operations(source) > most:
            continue
        computes = fingerprint(_compiled(source), source.split("(")[1].split(")")[0].count(",") + 1)
        if computes and computes not in found and computes not in taken() and split_of(computes) == split:
            try:
                found[computes] = task(source, kernel, family)
            except ValueError:  # not gradable: it does not depend on an input, or is not finite
                continue
    return list(found.values())


def task(source: str, kernel: str = "", family: str = "element-wise") -> KernelTask:
    """The KernelTask of a function's text, `def fused(x, y): ...` on tensors of one shape (2-D in the family "reduction").

    Raises ValueError where it cannot be graded.
    """
    function = _compiled(source)
    parameters = function.__code__.co_argcount
    shapes = [[shape] * parameters for shape in (ROWS if family == "reduction" else FLAT)]
    name = "fused-" + hashlib.blake2b(source.encode(), digest_size=5).hexdigest()
    return KernelTask(name, function, shapes, entry=ENTRY, source=source, family=family, kernel=kernel)


def operations(source: str) -> int:
    """How many operators and calls a function's text has: 2 for `torch.relu(x + y)`, a number's own minus not counted."""
    kinds = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Compare)
    negative = sum(isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant) for node in ast.walk(ast.parse(source)))
    return sum(isinstance(node, kinds) for node in ast.walk(ast.parse(source))) - negative


def fingerprint(function, parameters: int) -> str | None:
    """What the function computes, to five digits, on fixed inputs of 4 x 8; None where it does not take them."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(4, 8, generator=generator, dtype=torch.float64) * 2 for _ in range(parameters)]
    try:
        result = function(*inputs)
        values = [float(f"{v:.5g}") + 0.0 for v in result.flatten().tolist()]
    except Exception:  # whatever a reader's function does with these shapes
        return None
    return hashlib.blake2b(repr((parameters, tuple(result.shape), values)).encode(), digest_size=12).hexdigest()


@functools.cache
def taken() -> frozenset:
    """The fingerprints of the course's own tasks."""
    tasks = [t for split in SPLITS for t in load_kernel_tasks(split)]
    return frozenset(filter(None, (fingerprint(t.reference, len(t.parameters)) for t in tasks)))


def _compose(rng, family):
    """(PyTorch source, Triton program) of a random function."""
    names = ["x", "y", "z"][:rng.choice((1, 1, 2, 2, 2, 3))]
    steps = rng.choice((0, 1, 1, 2)) if len(names) > 1 else rng.choice((1, 1, 2, 2))
    tables = {"element-wise": [UNARY], "activation": [ACTIVATIONS], "reduction": [UNARY, ACTIVATIONS]}[family]
    torch_text = triton_text = names[0]
    for name in names[1:]:
        torch_text, triton_text = _apply(rng.choice(list(BINARY.values())), (torch_text, triton_text), (name, name))
    if family == "activation":
        steps = max(1, steps)
    for step in range(steps):
        if rng.random() < 0.5 and not (family == "activation" and step == 0):
            form = rng.choice(WITH_CONSTANT).replace("{c}", rng.choice(CONSTANTS))
            torch_text, triton_text = _apply((form, form), (torch_text, triton_text))
        else:
            torch_text, triton_text = _apply(rng.choice(list(rng.choice(tables).values())), (torch_text, triton_text))
    return _source(rng, family, names, torch_text, triton_text)


def _apply(forms, a, b=("", "")):
    return tuple(form.format(a=_operand(left, form), b=_operand(right, form)) for form, left, right in zip(forms, a, b))


def _operand(text: str, form: str) -> str:
    """In parentheses, unless it is a name or a call, or stands between a call's own parentheses."""
    plain = text.isidentifier() or (text.endswith(")") and text.split("(")[0].replace(".", "").isidentifier() and _closes_last(text))
    inside_call = "({a})" in form and form.count("{a}") == 1 or "({a}, {b})" in form
    return text if plain or inside_call or not text else f"({text})"


def _closes_last(text: str) -> bool:
    """Whether the first parenthesis of a text closes with its last character."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == ")" and depth == 0:
            return place == len(text) - 1
    return False


def _source(rng, family, names, torch_text, triton_text):
    pieces = {"pointers": ", ".join(f"{n}_ptr" for n in names), "names": ", ".join(names), "first": names[0], "arguments": ", ".join(names)}
    if family != "reduction":
        loads = "\n".join(f"    {n} = tl.load({n}_ptr + offsets, mask=mask)" for n in names)
        return f"def fused({', '.join(names)}):\n    return {torch_text}\n", KERNEL.format(loads=loads, value=triton_text, **pieces)
    reduction = rng.choice(list(REDUCTIONS))
    padding, reduced = REDUCTIONS[reduction]
    loads = "\n".join(f"    {n} = tl.load({n}_ptr + row * columns + column, mask=mask, other=0.0)" for n in names)
    plain = torch_text if torch_text.isidentifier() or _closes_last(torch_text) and torch_text.startswith("torch.") else f"({torch_text})"
    kernel = ROW_KERNEL.format(loads=loads, value=triton_text, padding=padding, reduced=reduced.format(v="value"), **pieces)
    return f"def fused({', '.join(names)}):\n    return {plain}.{reduction}(dim=-1)\n", kernel


def _compiled(source: str):
    """The function that a text defines; for texts of this module and of the reader, never of a model."""
    space = {"torch": torch}
    exec(compile(source, "<function>", "exec"), space)  # the reader's own code, as in any notebook cell
    return space[ENTRY]
