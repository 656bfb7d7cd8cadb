"""Which keywords does a function of an installed package take? Read from its source (rftlab/sources.py).

    keywords(Sources(), "trl.GRPOConfig").names            # {"beta", "epsilon", ...}
    keywords(Sources(["build/newest"]), "unsloth.FastLanguageModel.from_pretrained")

Fields of dataclasses count, those of base classes too. Where a function ends in `**kwargs`, so do the keywords that it takes
out of them by name (`kwargs.pop("x")`) and those of what it passes them on to, as far as that can be found; otherwise the
answer is marked `open`.
"""
import ast
import re
from dataclasses import dataclass

from rftlab.sources import DEPTH, Module, Sources


@dataclass(frozen=True)
class Keywords:
    """What may be passed by name; `open` when a `**kwargs` goes somewhere that could not be read."""

    names: frozenset[str]
    open: bool = False

    def __or__(self, other: "Keywords") -> "Keywords":
        return Keywords(self.names | other.names, self.open or other.open)


NOTHING, ANYTHING = Keywords(frozenset()), Keywords(frozenset(), open=True)


def keywords(sources: Sources, dotted: str) -> Keywords:
    """The keywords that `package.name` or `package.Class.method` takes. Raises LookupError when it does not exist."""
    return accepted(sources, *sources.find(dotted))


def accepted(sources: Sources, module: Module, node, depth: int = DEPTH) -> Keywords:
    """The keywords of a class (those of its `__init__`, or its fields) or of a function, found by `Sources.find`."""
    if not depth:
        return ANYTHING
    if not isinstance(node, ast.ClassDef):
        return _of_function(sources, module, node, depth)
    own = next((child for child in node.body if isinstance(child, ast.FunctionDef) and child.name == "__init__"), None)
    if own is not None:
        return _of_function(sources, module, own, depth, owner=node)
    inherited = [accepted(sources, *base, depth - 1) for base in sources.bases(module, node)]
    if not any(re.search(r"\b(?:dataclass|strict)\b", ast.unparse(one)) for one in node.decorator_list):
        return inherited[0] if inherited else NOTHING
    fields = frozenset(child.target.id for child in node.body if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name)
                       and "ClassVar" not in ast.unparse(child.annotation) and "init=False" not in ast.unparse(child))
    return Keywords(frozenset().union(fields, *(base.names for base in inherited)))


def _of_function(sources, module, node, depth, owner=None) -> Keywords:
    parameters = node.args
    names = {one.arg for one in parameters.args + parameters.kwonlyargs} - {"self", "cls"}
    if parameters.kwarg is None:
        return Keywords(frozenset(names))
    rest, taken, passed_on = parameters.kwarg.arg, set(), NOTHING
    for call in (one for one in ast.walk(node) if isinstance(one, ast.Call)):
        called = call.func
        if isinstance(called, ast.Attribute) and ast.unparse(called.value) == rest and called.attr in ("pop", "get") and call.args:
            if isinstance(call.args[0], ast.Constant):
                taken.add(call.args[0].value)
        elif any(one.arg is None and ast.unparse(one.value) == rest for one in call.keywords):
            passed_on |= _of_call(sources, module, called, owner, depth)
    found = Keywords(frozenset(names | taken)) | passed_on
    return found if taken or passed_on != NOTHING else found | ANYTHING


def _of_call(sources, module, called, owner, depth) -> Keywords:
    text = ast.unparse(called)
    try:
        if owner is not None and text == "super().__init__":
            bases = list(sources.bases(module, owner))
            return accepted(sources, *bases[0], depth - 1) if bases else ANYTHING
        return accepted(sources, *sources.find(module.meant(text)), depth - 1)
    except (LookupError, RecursionError):
        return ANYTHING
