"""From a program's text to the code that a child runs, made in the trusted parent, which never runs it.

Triton's interpreter looks for a kernel's source in text, by lines that start with "def ", and rewrites it inside the process under
test. Here it is done once, outside, from the one syntax tree. What the rewritten kernels call are builtins of the child
(`rewriting`), under names with a blank, which no program can write or define.
"""

import ast
import marshal

from rftlab.kernels.extract import FILE, FormatError, Program, statements


def code_of(program: Program) -> bytes:
    """The marshalled pair of the module's code, and {line: (name, code)} of its kernels in interpreted form. Changes the tree.

    Raises FormatError for what the parser takes and the compiler does not, such as a `return` outside a function.
    """
    try:
        module, kernels = compile(program.tree, FILE, "exec"), {}
        for node in statements(program.tree):
            if isinstance(node, ast.FunctionDef) and (node.decorator_list or f"jit({node.name})" in program.text):
                line = (node.decorator_list[0] if node.decorator_list else node).lineno
                node.decorator_list = []
                kernels[line] = (node.name, compile(KernelTransformer().visit(ast.Module([node], [])), FILE, "exec"))
        return marshal.dumps((module, kernels))
    except SyntaxError as error:
        raise FormatError(f"line {program.line(error.lineno or 0)}: the block is not Python: {error.msg}") from None
    except (RecursionError, MemoryError, ValueError, OverflowError) as error:
        raise FormatError(f"the block cannot be compiled by Python: {type(error).__name__}") from None


class KernelTransformer(ast.NodeTransformer):
    """What Python does differently from Triton's compiler becomes a call: all kinds of assignment make tensors, `range` counts in int32
    scalars, and its variable ends with the loop; `and`, `or`, `not`, `min`, `max` and chained comparisons work lane by lane; % makes no texts."""

    def visit_Assign(self, node):
        node = self.generic_visit(node)
        node.value = _call(node.value, "interpreter tensor", [node.value])
        return node

    visit_NamedExpr = visit_Assign

    def visit_AnnAssign(self, node):
        node = self.generic_visit(node)
        if node.value is not None:
            node.value = _call(node.value, "interpreter annotated", [node.value, node.annotation])
        return node

    def visit_AugAssign(self, node):
        if not isinstance(node.target, ast.Name):
            return self.generic_visit(node)
        before = ast.Name(node.target.id, ast.Load(), **_place(node.target))
        return self.visit_Assign(ast.Assign([node.target], ast.BinOp(before, node.op, node.value, **_place(node)), **_place(node)))

    def visit_For(self, node):
        node = self.generic_visit(node)
        function = node.iter.func if isinstance(node.iter, ast.Call) else None
        if getattr(function, "id", getattr(function, "attr", None)) != "range" or not isinstance(node.target, ast.Name):
            return node
        if isinstance(function, ast.Name):
            function.id = "interpreter range"
        gone = _call(node.target, "interpreter gone", [ast.Constant(node.target.id, **_place(node.target))])
        return [node, ast.Assign([ast.Name(node.target.id, ast.Store(), **_place(node.target))], gone, **_place(node))]

    def visit_Call(self, node):
        node = self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("min", "max") and not node.keywords:
            return _call(node, "interpreter extreme", [node.func, *node.args])
        if isinstance(node.func, ast.Name) and node.func.id == "print":
            return ast.Call(ast.Name("interpreter print", ast.Load(), **_place(node)), [node.func, *node.args], node.keywords, **_place(node))
        return node

    def visit_BoolOp(self, node):
        node = self.generic_visit(node)
        name = "interpreter and" if isinstance(node.op, ast.And) else "interpreter or"
        return _lazily(node, name, [node.values[0]], node.values[1:])

    def visit_IfExp(self, node):
        node = self.generic_visit(node)
        return _lazily(node, "interpreter choice", [node.test], [node.body, node.orelse])

    def visit_Compare(self, node):
        node = self.generic_visit(node)
        if len(node.ops) == 1 and not isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            return node
        names = ast.Constant(" ".join(type(op).__name__ for op in node.ops), **_place(node))
        return _lazily(node, "interpreter chain", [names, node.left], node.comparators)

    def visit_BinOp(self, node):
        node = self.generic_visit(node)
        text = isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)  # a message: `policy` refuses any other
        return _call(node, "interpreter remainder", [node.left, node.right]) if isinstance(node.op, ast.Mod) and not text else node

    def visit_UnaryOp(self, node):
        node = self.generic_visit(node)
        return _call(node, "interpreter not", [node.operand]) if isinstance(node.op, ast.Not) else node


def _lazily(node, name: str, first: list[ast.expr], rest: list[ast.expr]):
    """A call whose later arguments are evaluated when they are needed; at once where := binds, which it would do inside a lambda."""
    if any(isinstance(part, ast.NamedExpr) for part in ast.walk(node)):
        return _call(node, name, [*first, *(_call(value, "interpreter later", [value]) for value in rest)])
    return _call(node, name, [*first, *(ast.Lambda(ast.arguments([], [], None, [], [], None, []), value, **_place(value)) for value in rest)])


def _call(where: ast.expr, name: str, arguments: list[ast.expr]) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load(), **_place(where)), arguments, [], **_place(where))


def _place(node: ast.expr) -> dict[str, int]:
    return {"lineno": node.lineno, "col_offset": node.col_offset, "end_lineno": node.end_lineno, "end_col_offset": node.end_col_offset}
