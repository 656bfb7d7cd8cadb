"""The interpreted form of a program's kernels, made from its one syntax tree.

Triton's interpreter looks for a kernel's source in text, by lines that start with "def ", and puts 64 names into the program's
globals, numpy among them. Here the tree is at hand, and what rewritten kernels call are builtins whose names no program can use.

What Python does differently from the compiler is put right: `range` counts in int32 scalars; `and`, `or`, `not`, `min` and `max`
work lane by lane on blocks.
"""

import ast
import builtins

import triton.language as tl
from triton.runtime import interpreter

from rftlab.kernels.child import FILE

definitions: dict[int, ast.FunctionDef] = {}  # first line -> function, of the program under test


def install() -> None:
    for name in ("interpreter_semantic", "_InterpreterComparison"):
        setattr(builtins, name, getattr(interpreter, name, None))
    builtins.interpreter_extreme = extreme
    builtins.interpreter_range, builtins.interpreter_not = counting, lane_wise_not
    builtins.interpreter_and, builtins.interpreter_or = lane_wise("logical_and", False), lane_wise("logical_or", True)
    interpreter.FunctionRewriter._compile_and_exec = compile_and_exec
    for module in (tl.standard, tl.random):  # their sources cannot be read after the lock-down
        for value in list(vars(module).values()):
            if isinstance(value, interpreter.InterpretedFunction):
                value.rewrite()
    interpreter.FunctionRewriter.rewrite_ast = rewrite


def read_program(tree: ast.Module) -> None:
    """Make the functions of a program known, from its syntax tree."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    definitions.clear()
    definitions.update({(node.decorator_list[0] if node.decorator_list else node).lineno: node for node in functions})


def rewrite(self):
    """Replaces `FunctionRewriter.rewrite_ast`: the kernel's own tree, with the calls that Triton's semantics need."""
    node = definitions.get(self.fn.__code__.co_firstlineno)
    if node is None or node.name != self.fn.__name__:
        return self.fn
    node.decorator_list = []  # the tree is changed for good: Triton keeps what it rewrote
    self.filename = FILE
    return self._compile_and_exec(ast.fix_missing_locations(KernelTransformer().visit(ast.Module([node], []))))


def compile_and_exec(self, tree):
    """Triton's own, less the names that it adds to the globals."""
    names = dict(self.kwargs)
    exec(compile(tree, self.filename, "exec"), self.fn.__globals__, names)
    return names[self.fn.__name__]


class KernelTransformer(interpreter.ASTTransformer):
    """Triton's changes (assignments become tensors) and ours."""

    def visit_For(self, node):
        node = self.generic_visit(node)
        if isinstance(node.iter, ast.Call) and isinstance(node.iter.func, ast.Name) and node.iter.func.id == "range":
            node.iter.func = ast.Name("interpreter_range", ast.Load())
        return node

    def visit_Call(self, node):
        node = self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("min", "max") and not node.keywords:
            return ast.copy_location(_call("interpreter_extreme", [node.func, *node.args]), node)
        return node

    def visit_BoolOp(self, node):
        node = self.generic_visit(node)
        if any(isinstance(part, ast.NamedExpr) for part in ast.walk(node)):
            return node  # := would bind inside the lambda below
        name = "interpreter_and" if isinstance(node.op, ast.And) else "interpreter_or"
        rest = [ast.Lambda(ast.arguments([], [], None, [], [], None, []), value) for value in node.values[1:]]
        return ast.copy_location(_call(name, [node.values[0], *rest]), node)

    def visit_UnaryOp(self, node):
        node = self.generic_visit(node)
        return ast.copy_location(_call("interpreter_not", [node.operand]), node) if isinstance(node.op, ast.Not) else node


def _call(name: str, arguments: list[ast.expr]) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), arguments, [])


def counting(first, end=None, step=1, **_):
    """`range` and `tl.range` of a kernel: yields int32 scalars of the interpreter, as the compiler's loops do."""
    first, end = (0, first) if end is None else (first, end)
    for i in range(first, end, step):
        yield interpreter.interpreter_semantic.to_tensor(i)


def lane_wise(method: str, decides: bool):
    """`and` or `or`: lane by lane where an operand is a tensor; `decides` is the plain value that ends the evaluation."""

    def operator(value, *rest):
        for later in rest:
            if not isinstance(value, tl.tensor) and bool(value) is decides:
                return value
            other = later()
            if isinstance(value, tl.tensor):
                value = getattr(value, method)(other)
            else:
                value = getattr(other, method)(value) if isinstance(other, tl.tensor) else other
        return value

    return operator


def extreme(function, *values):
    """`min` or `max`, which the compiler takes for tl.minimum and tl.maximum; or a variable of that name."""
    if function in (min, max) and any(isinstance(value, tl.tensor) for value in values):
        return (tl.minimum if function is min else tl.maximum)(*values)
    return function(*values)


def lane_wise_not(value):
    return value.__not__() if isinstance(value, tl.tensor) else not value
