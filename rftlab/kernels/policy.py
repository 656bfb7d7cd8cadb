"""The rules of a program, as a list of what is allowed: everything else is refused, with a line and a reason.

Each name and attribute that a program can write leads to something harmless, however it is called, stored or passed on:
there is no list of dangerous calls to outwit. Names are resolved as Python does it, scope by scope, so a local variable may be
called `max` or `open`, and `open` is still refused where it would be Python's own. The rules are not the wall (that is
`lockdown`): they are what makes the evidence of `provenance` believable, since a program that keeps them cannot tamper with it.
"""

import ast
import builtins

from rftlab.kernels.allowed import (
    BUILTINS,
    CONTEXTS,
    DECORATOR_OPTIONS,
    DRIVER,
    DRIVER_FUNCTIONS,
    HOST_ATTRIBUTES,
    IMPORTS,
    KERNEL_ATTRIBUTES,
    LAUNCH_OPTIONS,
    LIBDEVICE,
    LIMITS,
    TL,
    TL_HOST,
    TL_MATH,
    TORCH,
    TORCH_CUDA,
    TORCH_TYPES,
    TRITON,
)
from rftlab.kernels.extract import Program
from rftlab.kernels.libdevice import FUNCTIONS as LIBDEVICE_FUNCTIONS

REFUSED = {
    "Try": "try would hide a kernel that fails", "TryStar": "try would hide a kernel that fails", "ClassDef": "classes are not needed",
    "Global": "global", "Nonlocal": "nonlocal", "AsyncFunctionDef": "async", "Await": "await", "AsyncFor": "async", "AsyncWith": "async",
    "Yield": "yield", "YieldFrom": "yield", "Match": "match", "TypeAlias": "type aliases are not needed",
}  # fmt: skip
SCOPES = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
COMPREHENSIONS = SCOPES[2:]
SAYS = {  # which of their arguments are messages
    "print": slice(0, None), "triton.language.static_print": slice(0, None), "triton.language.device_print": slice(0, None),
    "triton.language.static_assert": slice(1, 2), "triton.language.device_assert": slice(1, 2),
}  # fmt: skip


def structure(program: Program, entry: str, parameters: int) -> list[str]:
    """Why this text is no answer at all (score 0.0): no such function, or no kernel."""
    functions = {node.name: node for node in program.tree.body if isinstance(node, ast.FunctionDef)}
    if entry not in functions:
        return [f"there is no function {entry}(...)"]
    if not any(_is_kernel(node) for node in functions.values()):
        return ["there is no @triton.jit kernel"]
    arguments = functions[entry].args
    most = len(arguments.posonlyargs) + len(arguments.args)
    least = most - len(arguments.defaults)
    if arguments.vararg is None and not least <= parameters <= most or any(d is None for d in arguments.kw_defaults):
        return [f"line {program.line(functions[entry].lineno)}: {entry} must take {parameters} arguments, as the reference does"]
    return []


def check(program: Program, entry: str) -> list[str]:
    """Every rule that the program breaks, as "line n: reason", in order; an empty list when it keeps them all."""
    checker = Checker(program)
    try:
        checker.module(program.tree)
        checker.launches(entry)
    except RecursionError:
        checker.reasons.append((0, "the program is nested too deeply"))
    return [f"line {line}: {text}" if line else text for line, text in sorted(dict.fromkeys(checker.reasons))]


def _is_kernel(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(d.func if isinstance(d, ast.Call) else d).split(".")[-1] == "jit" for d in node.decorator_list)


class Checker:
    """One walk over the tree. `scopes` holds the local names of the functions around, `kernel` whether one is a kernel."""

    def __init__(self, program: Program):
        self.program, self.reasons = program, []
        self.imports: dict[str, str] = {}  # name -> dotted path that it stands for
        self.globals: set[str] = set()
        self.values: dict[str, ast.expr] = {}  # what global names are assigned
        self.functions: dict[str, ast.FunctionDef] = {}
        self.kernels: dict[str, ast.FunctionDef] = {}
        self.scopes: list[set[str]] = []
        self.kernel = False
        self.messages: set[ast.AST | None] = set()  # texts that only people read

    def say(self, node, text: str) -> None:
        self.reasons.append((self.program.line(getattr(node, "lineno", 0)), text))

    def module(self, tree: ast.Module) -> None:
        for statement in tree.body:
            if isinstance(statement, ast.FunctionDef):
                self.bind(statement, statement.name)
                (self.kernels if _is_kernel(statement) else self.functions)[statement.name] = statement
        seen = self.globals
        later, self.globals = set(seen), set()
        for statement in tree.body:
            self.top(statement)
        self.globals |= later
        for function in [*self.functions.values(), *self.kernels.values()]:
            self.kernel = function.name in self.kernels
            self.body(function)
        self.kernel = False

    def bind(self, node, name: str) -> None:
        """A new name of the module: each only once, and none of Python's own that is not allowed: a function called before would find that."""
        if name in self.imports or name in self.globals:
            self.say(node, f"{name} is defined twice")
        if name.startswith("__") or hasattr(builtins, name) and name not in BUILTINS:
            self.say(node, f"{name} is Python's own: choose another name")
        self.globals.add(name)

    def top(self, node: ast.stmt) -> None:
        """A statement of the module: imports, functions, and assignments to names."""
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self.importing(node)
        elif isinstance(node, ast.FunctionDef):
            self.signature(node)
            self.globals.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                names = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
                for name in names:
                    if not isinstance(name, ast.Name):
                        self.say(node, "at module level only names can be assigned")
                    elif name.id in self.functions or name.id in self.kernels:
                        self.say(name, f"{name.id} is defined twice")
            if node.value is not None:
                self.visit(node.value)
            if isinstance(node, ast.AnnAssign):
                self.annotation(node.annotation)
            for name in sorted(local_names(ast.Lambda(ast.arguments([], [], None, [], [], None, []), [node]))):
                self.bind(node, name)
                self.values[name] = node.value or node.annotation
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self.visit(node.value)
        elif not isinstance(node, ast.Pass):
            self.say(node, f"{_called(node)} at module level: only imports, functions and constants stand there")

    def importing(self, node) -> None:
        if isinstance(node, ast.ImportFrom):
            pairs = [(f"{node.module}.{alias.name}", alias) for alias in node.names]
            if node.level or node.module not in IMPORTS or any(alias.name == "*" for alias in node.names):
                return self.say(node, f"from {node.module} import {node.names[0].name}: only torch, triton, triton.language and math can be imported")
        else:
            pairs = [(alias.name, alias) for alias in node.names]
        for path, alias in pairs:
            if path not in IMPORTS and not self.object(path, annotation=True):
                self.say(node, f"import {path}: only torch, triton, triton.language and math can be imported")
            name = alias.asname or (alias.name if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0])
            stands_for = path if alias.asname or isinstance(node, ast.ImportFrom) else name
            if alias.asname and {alias.name, alias.asname} & {"range", "static_range"}:
                self.say(node, f"{alias.name} as {alias.asname}: loops are told by the names range and static_range")
            if self.imports.get(name, stands_for) != stands_for or name in self.globals:
                self.say(node, f"{name} is defined twice")
            self.imports[name] = stands_for

    def signature(self, node: ast.FunctionDef) -> None:
        """Decorators, defaults and annotations, which run where the function is defined."""
        for decorator in node.decorator_list:
            path = self.path(decorator.func if isinstance(decorator, ast.Call) else decorator)
            allowed = DECORATOR_OPTIONS if node.name in self.kernels and not self.scopes else ("torch.no_grad", "torch.inference_mode")
            if path not in allowed or path == "triton.Config":
                self.say(decorator, f"the decorator {ast.unparse(decorator)[:60]} is not allowed here")
            self.visit(decorator)
        if getattr(node, "type_params", None):
            self.say(node, "type parameters are not allowed")
        for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(default)
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                self.annotation(argument.annotation)
        self.annotation(node.returns)

    def body(self, node) -> None:
        """The inside of a function, lambda or comprehension, with its own names."""
        names = local_names(node)
        for name in names & self.imports.keys():
            self.say(node, f"{name} is an import: choose another name for the variable")
        for name in names:
            if name.startswith("__"):
                self.say(node, f"the name {name} is not allowed")
        self.scopes.append(names)
        if isinstance(node, COMPREHENSIONS):
            for child in ast.iter_child_nodes(node):
                self.visit(child)
        else:
            for child in node.body if isinstance(node.body, list) else [node.body]:
                self.visit(child)
        self.scopes.pop()

    def visit(self, node: ast.AST) -> None:
        kind = type(node).__name__
        if kind in REFUSED:
            return self.say(node, f"{REFUSED[kind]} is not allowed" if len(REFUSED[kind]) < 12 else REFUSED[kind])
        method = getattr(self, f"on_{kind}", None)
        if method is not None and method(node):
            return
        for child in ast.iter_child_nodes(node):
            self.visit(child)

    def on_FunctionDef(self, node):
        if self.kernel:
            self.say(node, "a function inside a kernel is not allowed")
        self.signature(node)
        self.body(node)
        return True

    def on_Lambda(self, node):
        for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(default)
        self.body(node)
        return True

    def on_ListComp(self, node):
        first = node.generators[0]
        self.visit(first.iter)  # Python evaluates it outside
        first.iter, kept = ast.Constant(None), first.iter
        self.body(node)
        first.iter = kept
        return True

    on_SetComp = on_DictComp = on_GeneratorExp = on_ListComp

    def on_BinOp(self, node):
        if isinstance(node.op, ast.MatMult):
            self.say(node, "@ is not allowed: multiply with tl.dot in a kernel")
        left = getattr(node, "left", None)  # an augmented assignment has none
        if isinstance(node.op, ast.Mod) and isinstance(left, ast.Constant) and isinstance(left.value, (str, bytes)):
            self.formatting(node)

    on_AugAssign = on_BinOp

    def on_JoinedStr(self, node):
        self.formatting(node)

    def on_FormattedValue(self, node):
        self.messages.add(node.format_spec)

    def on_Assert(self, node):
        self.messages.add(node.msg)

    def formatting(self, node) -> None:
        """A text made of values, by which a kernel could tell the interpreter from the compiler: one prints constexpr[64], the other 64."""
        if self.kernel and node not in self.messages:
            self.say(node, "a text made of values in a kernel is allowed only as the message of an assert or a print: compare the values themselves")

    def on_Import(self, node):
        self.say(node, "imports stand at the top of the module")
        return True

    on_ImportFrom = on_Import

    def on_With(self, node):
        if any(self.path(getattr(item.context_expr, "func", item.context_expr)) not in CONTEXTS for item in node.items):
            self.say(node, "with is only allowed for torch.no_grad() and torch.cuda.device(...)")

    def on_Compare(self, node):
        """What a kernel could tell the interpreter from the compiler by: whether two values are one object."""
        for op, value in zip(node.ops, node.comparators):
            if self.kernel and isinstance(op, (ast.Is, ast.IsNot)) and not (isinstance(value, ast.Constant) and value.value in (None, True, False)):
                self.say(node, "in a kernel, is may only compare with None")

    def on_Delete(self, node):
        if not all(isinstance(target, ast.Name) for target in node.targets):
            self.say(node, "del is only allowed for variables")

    def on_AnnAssign(self, node):
        self.annotation(node.annotation)
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)
        return True

    def on_Name(self, node):
        name = node.id
        if isinstance(node.ctx, ast.Load) and not any(name in scope for scope in self.scopes):
            if name in self.imports:
                if not self.object(self.imports[name]):
                    self.say(node, f"{name} can only be used as {name}.something")
            elif self.kernel and name == "isinstance" and name not in self.globals:
                self.say(node, "isinstance in a kernel: the kinds of values are not the same on a GPU")
            elif name not in self.globals and name not in BUILTINS:
                own = hasattr(builtins, name)
                self.say(node, f"{name} is not allowed" if own else f"{name} is not defined")
        elif name.startswith("__"):
            self.say(node, f"the name {name} is not allowed")
        return True

    def on_Attribute(self, node):
        if not isinstance(node.ctx, ast.Load):
            self.say(node, f"assigns the attribute .{node.attr}")
        chain, root = [], node
        while isinstance(root, ast.Attribute):
            chain.append(root.attr)
            root = root.value
        chain.reverse()
        rest = chain
        if isinstance(root, ast.Name) and root.id in self.imports and not any(root.id in scope for scope in self.scopes):
            path, rest = self.imports[root.id], list(chain)
            while rest and not self.object(path):
                path = f"{path}.{rest.pop(0)}"
            while rest and self.object(f"{path}.{rest[0]}"):  # a member of an object, such as PropagateNan.ALL
                path = f"{path}.{rest.pop(0)}"
            if not self.object(path):
                self.say(node, self.explain(path))
                return True
        else:
            self.visit(root)
        limits = isinstance(root, ast.Call) and self.path(root.func) in ("torch.finfo", "torch.iinfo")
        for attribute in rest:
            if limits and attribute in LIMITS:
                continue
            if attribute not in (KERNEL_ATTRIBUTES if self.kernel else HOST_ATTRIBUTES):
                self.say(node, f"the attribute .{attribute} is not allowed {'in a kernel' if self.kernel else 'outside kernels'}")
        return True

    def on_Call(self, node):
        path = self.path(node.func)
        options = DECORATOR_OPTIONS.get(path)
        own = isinstance(node.func, ast.Name) and not any(node.func.id in names for names in (self.globals, *self.scopes))
        says = SAYS.get(path or (node.func.id if own else ""))
        if says is not None:
            self.messages |= {*node.args[says], *(keyword.value for keyword in node.keywords if keyword.arg == "msg")}
        launched = self.kernels.get(node.func.value.id) if isinstance(node.func, ast.Subscript) and isinstance(node.func.value, ast.Name) else None
        if launched is not None:
            options = LAUNCH_OPTIONS | {argument.arg for argument in ast.walk(launched.args) if isinstance(argument, ast.arg)}
        for keyword in node.keywords:
            if options is not None and keyword.arg is not None and keyword.arg not in options:
                what = f"launching {launched.name}" if launched is not None else path
                self.say(keyword.value, f"the option {keyword.arg} is not allowed in {what}")
            elif options is not None and keyword.arg is None and launched is None:
                self.say(node, f"** is not allowed in {path}")
        if path == "triton.autotune" and len(node.args) > 2 or path == "triton.Config" and len(node.args) > 4:
            self.say(node, f"{path}: give further options by name")
        if isinstance(node.func, ast.Name) and node.func.id == "isinstance" and len(node.args) == 2 and not node.keywords and not self.kernel:
            self.visit(node.args[0])
            self.annotation(node.args[1])
            return True
        return False

    def annotation(self, node) -> None:
        """A type: names of torch's and typing's types, and everything else that may be loaded."""
        for part in ast.walk(node) if node is not None else ():
            if isinstance(part, ast.Call):
                self.say(part, "a call in an annotation")
            elif isinstance(part, (ast.Name, ast.Attribute)) and not self.object(self.path(part) or "", annotation=True):
                if isinstance(part, ast.Attribute) or part.id not in self.imports:
                    self.visit(part)
            elif isinstance(part, SCOPES + (ast.NamedExpr,)):
                self.say(part, "an annotation must be a plain type")

    def path(self, node) -> str | None:
        """The dotted path that a name or an attribute stands for, None when its root is no import."""
        chain = []
        while isinstance(node, ast.Attribute):
            chain.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.imports or any(node.id in scope for scope in self.scopes):
            return None
        return ".".join([self.imports[node.id], *reversed(chain)])

    def object(self, path: str, annotation: bool = False) -> bool:
        """Whether a dotted path names something that a program may hold."""
        module, _, name = path.rpartition(".")
        if annotation and (module == "triton.language" and name in TL or module == "triton.language.math" and name in TL_MATH):
            return True
        if annotation and (module == "typing" or path == "__future__.annotations" or module == "torch" and name in TORCH_TYPES):
            return True
        if name.startswith("_"):
            return False
        tables = {
            "torch": frozenset() if self.kernel else TORCH,
            "torch.cuda": frozenset() if self.kernel else TORCH_CUDA,
            DRIVER: frozenset() if self.kernel else DRIVER_FUNCTIONS,
            "triton": TRITON,
            "triton.language": TL if self.kernel else TL_HOST,
            "triton.language.PropagateNan": {"ALL", "NONE"} if self.kernel else frozenset(),
            "triton.language.math": TL_MATH if self.kernel else frozenset(),
            "triton.tools.tensor_descriptor": {"TensorDescriptor"},
        }
        if module == "math" or module in LIBDEVICE and name in LIBDEVICE_FUNCTIONS and (self.kernel or annotation):
            return True
        return name in tables.get(module, ())

    def explain(self, path: str) -> str:
        if path in IMPORTS:
            return f"{path} can only be used as {path}.something"
        if path.startswith("torch") and self.kernel:
            return f"{path} inside a kernel: kernels use triton.language only"
        if path.startswith("torch"):
            return f"{path} is not allowed: torch may only allocate, the work is the kernel's"
        return f"{path} is not allowed {'in a kernel' if self.kernel else 'outside kernels'}"

    def launches(self, entry: str) -> None:
        """Some kernel stores, and the entry reaches some kernel."""
        def stores(node):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            return "store" in name or name.startswith("atomic_") or name == "scatter"

        if self.kernels and not any(stores(n) for k in self.kernels.values() for n in ast.walk(k)):
            self.reasons.append((0, "no kernel stores anything"))
        reached, ahead = set(), [entry]
        while ahead:
            name = ahead.pop()
            for node in ast.walk(self.functions.get(name) or self.values.get(name) or ast.Pass()):
                if isinstance(node, ast.Name) and node.id not in reached:
                    reached.add(node.id)
                    ahead.append(node.id)
        if self.kernels and not reached & self.kernels.keys():
            self.reasons.append((0, f"{entry} launches no kernel"))


def local_names(node) -> set[str]:
    """The names that are local to a function, lambda or comprehension, as Python binds them."""
    names = set()
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        names = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
        ahead = list(node.body) if isinstance(node.body, list) else [node.body]
    else:
        names = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
        return names
    while ahead:
        inner = ahead.pop()
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, (ast.Store, ast.Del)):
            names.add(inner.id)
        elif isinstance(inner, ast.FunctionDef):
            names.add(inner.name)
            ahead += [*inner.decorator_list, *inner.args.defaults, *filter(None, inner.args.kw_defaults)]
        elif isinstance(inner, ast.Lambda):
            ahead += [*inner.args.defaults, *filter(None, inner.args.kw_defaults)]
        elif isinstance(inner, COMPREHENSIONS):  # its targets are its own, but := inside binds here
            names |= {n.target.id for n in ast.walk(inner) if isinstance(n, ast.NamedExpr)}
            ahead.append(inner.generators[0].iter)
        else:
            ahead += ast.iter_child_nodes(inner)
    return names


def _called(node: ast.stmt) -> str:
    return {"If": "if", "For": "for", "While": "while", "With": "with", "ClassDef": "a class", "Try": "try", "Expr": "an expression"}.get(
        type(node).__name__, type(node).__name__)
