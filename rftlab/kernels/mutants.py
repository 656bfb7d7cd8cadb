"""Break a kernel in one place at a time, as people and models do: the mutants tell whether a task's cases would notice.

Mutation testing after DeMillo, Lipton and Sayward (1978). The places are those where kernels go wrong: signs, masks,
comparisons, constants, axes and strides, missing terms, swapped arguments, a reduction for another, a lost copy.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mod, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr}
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
FUNCTIONS = {
    "maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max", "sum": "max", "exp": "exp2", "log": "log2", "sqrt": "abs",
    "abs": "exp", "cdiv": "", "contiguous": "", "sigmoid": "exp", "erf": "exp", "empty": "zeros", "zeros": "empty", "atomic_add": "store",
}  # fmt: skip
ADDRESSES = ("load", "store", "atomic_add")


@dataclass(frozen=True)
class Mutant:
    """A kernel that was changed in one place."""

    line: int
    change: str  # "offsets < n -> offsets <= n"
    code: str


def mutants(code: str) -> Iterator[Mutant]:
    """All mutants of a program, each in one place. Raises SyntaxError when the program has no syntax tree."""
    tree = ast.parse(code)
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and not function.decorator_list and function.args.args:
            for node in ast.walk(function):
                node.instead = function.args.args[0].arg  # what a wrapper that forgot its result might return
    seen = {ast.unparse(tree)}
    for number, node in enumerate(ast.walk(tree)):
        for change in _changes(node):
            other = copy.deepcopy(tree)
            old = next(n for i, n in enumerate(ast.walk(other)) if i == number)
            before, new = _shown(old), change(old)
            _replace(other, old, new)
            text = ast.unparse(other)
            if text not in seen:
                seen.add(text)
                yield Mutant(node.lineno, f"{before} -> {_shown(new)}", text + "\n")


def _changes(node: ast.AST) -> Iterator[Callable[[ast.AST], ast.AST]]:
    """Functions that take a copy of the node and give what takes its place (the node itself, when changed in place)."""
    if isinstance(node, ast.BinOp):
        if type(node.op) in ARITHMETIC:
            yield lambda n: _with(n, op=ARITHMETIC[type(n.op)]())
        yield lambda n: n.left
        yield lambda n: n.right
    elif isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield lambda n: _with(n, op=ARITHMETIC[type(n.op)]())
        yield lambda n: ast.copy_location(ast.Assign([n.target], n.value, lineno=n.lineno), n)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield lambda n: _with(n, ops=[COMPARISONS[type(n.ops[0])]()])
        yield lambda n: _with(n, comparators=[_less_one(n.comparators[0])])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda n: n.operand
        if isinstance(node.operand, ast.Call):  # the usual padding of a maximum, -float("inf")
            yield lambda n: ast.copy_location(ast.Constant(0.0), n)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield lambda n: _with(n, value=n.value + 1)
        if node.value:
            yield lambda n: _with(n, value=n.value - 1 if isinstance(n.value, int) else n.value * 0.9)
    elif isinstance(node, ast.Return) and hasattr(node, "instead"):
        yield lambda n: _with(n, value=ast.Name(n.instead, ast.Load()))
    elif isinstance(node, ast.Call):
        yield from _call_changes(node)


def _call_changes(node: ast.Call) -> Iterator[Callable]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if name in ADDRESSES:
        for position, keyword in enumerate(node.keywords):
            if keyword.arg in ("mask", "other"):
                yield lambda n, at=position: _with(n, keywords=n.keywords[:at] + n.keywords[at + 1 :])
    if name in FUNCTIONS:
        yield _other_function
        if len(node.args) == 1 and name not in ("empty", "zeros"):
            yield lambda n: n.args[0]
    if name == "where":
        yield lambda n: _with(n, args=[n.args[0], n.args[2], n.args[1]])
        yield lambda n: n.args[1]
    if isinstance(node.func, ast.Subscript):  # a launch: neighbours among its arguments change places
        for position in range(len(node.args) - 1):
            yield lambda n, at=position: _with(n, args=[*n.args[:at], n.args[at + 1], n.args[at], *n.args[at + 2 :]])


def _other_function(node: ast.Call) -> ast.AST:
    other = FUNCTIONS[node.func.attr]
    if other:
        return _with(node, func=_with(node.func, attr=other))
    if node.func.attr == "contiguous":  # x.contiguous() -> x
        return node.func.value
    return ast.BinOp(node.args[0], ast.FloorDiv(), node.args[1])  # triton.cdiv(n, b) -> n // b


def _less_one(node: ast.AST) -> ast.AST:
    return ast.BinOp(node, ast.Sub(), ast.Constant(1))


def _with(node: ast.AST, **fields) -> ast.AST:
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Put `new` where `old` is; both may be the same object."""
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list):
                setattr(parent, name, [new if item is old else item for item in value])
    ast.fix_missing_locations(tree)


def _shown(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 80 and "\n" not in text else text.splitlines()[0][:77] + "..."
