"""Find a class, function or method in the source of installed packages, with nothing imported.

    Sources().find("trl.GRPOConfig")         # (module, its ClassDef), through every re-export

Importing would need a package's whole world (and Unsloth changes other libraries when it is imported); reading needs one
folder, so any version can be looked at, beside the one that is in use.
"""
import ast
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

DEFINITION = re.compile(rb"^(?:class|def) (\w+)", re.MULTILINE)
DEPTH = 8  # of re-exports and base classes


@dataclass
class Module:
    """One source file: what its top level defines, imports and renames."""

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_bytes())

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @cached_property
    def definitions(self) -> dict:
        """name -> ClassDef, FunctionDef, or the dotted name that it stands for; inside `if` and `try` too."""
        found, stars = {}, []
        for node in _top_level(self.tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found[node.name] = node
            elif isinstance(node, ast.ImportFrom):
                source = self.absolute(node)
                for alias in node.names:
                    if alias.name == "*":
                        stars.append(source)
                    else:
                        found.setdefault(alias.asname or alias.name, f"{source}.{alias.name}")
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    found.setdefault(alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0])
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.Attribute):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        found.setdefault(target.id, self.meant(ast.unparse(node.value), found))
        return found | {"*": stars}

    def meant(self, dotted: str, names: dict | None = None) -> str:
        """The absolute dotted name of what this file calls `dotted`."""
        first, _, rest = dotted.partition(".")
        value = (self.definitions if names is None else names).get(first)
        head = value if isinstance(value, str) else f"{self.name}.{first}"
        return f"{head}.{rest}" if rest else head

    def absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module
        parts = self.package.split(".")
        return ".".join(parts[:len(parts) - node.level + 1] + ([node.module] if node.module else []))


def _top_level(node):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _top_level(child)
        else:
            yield child


class Sources:
    """The packages in some folders, those that this interpreter would import where none is given."""

    def __init__(self, folders=None):
        self.folders = [Path(folder) for folder in (folders or sys.path) if Path(folder).is_dir()]
        self._modules, self._indices = {}, {}

    def has(self, package: str) -> bool:
        return self.module(package) is not None

    def module(self, name: str) -> Module | None:
        if name not in self._modules:
            part = Path(*name.split("."))
            paths = (folder / path for folder in self.folders for path in (part / "__init__.py", part.with_suffix(".py")))
            path = next((path for path in paths if path.is_file()), None)
            self._modules[name] = Module(name, path) if path else None
        return self._modules[name]

    def find(self, dotted: str, depth: int = DEPTH):
        """(module, node) of a class, function or method. Raises LookupError when the name is not there."""
        parts = dotted.split(".")
        if self.module(parts[0]) is None:
            raise LookupError(f"the package {parts[0]!r} is not in {', '.join(map(str, self.folders[:3]))}")
        for cut in range(len(parts) - 1, 0, -1):
            module = self.module(".".join(parts[:cut]))
            if module and depth:
                renamed = module.definitions.get(parts[cut])
                if isinstance(renamed, str) and renamed != ".".join(parts[:cut + 1]) and self.module(renamed) and parts[cut + 1:]:
                    return self.find(".".join([renamed, *parts[cut + 1:]]), depth - 1)
                owner = self._in_module(module, parts[cut], depth - 1)
                if owner:
                    return self._member(*owner, parts[cut + 1:], depth - 1)
                break
        raise LookupError(f"{dotted} does not exist in the source of {parts[0]}")

    def _in_module(self, module, name, depth):
        node = module.definitions.get(name)
        if isinstance(node, str):
            try:
                return self.find(node, depth)
            except LookupError:
                node = None
        if node is not None:
            return module, node
        if module.definitions["*"] or "." not in module.name:
            return self._anywhere(module, name)
        return None

    def _anywhere(self, module, name):
        """For star imports, and for lazy packages that load by name: the one file below that defines it.

        Of several the one with the shortest path, which is the main one: others are of experiments, or generated.
        """
        package = module.name.split(".")[0]
        below = module.package
        for other in self._index(package).get(name, ()):
            if f"{other}.".startswith(f"{below}."):
                return self.module(other), self.module(other).definitions[name]
        return None

    def _index(self, package):
        """name of a class or function -> the modules of the package that define it, the shortest path first."""
        if package not in self._indices:
            root, found = self.module(package).path.parent, {}
            if self.module(package).path.name == "__init__.py":
                for path in sorted(root.rglob("*.py"), key=lambda path: (len(path.parts), path)):
                    inner = path.relative_to(root).with_suffix("").parts
                    name = ".".join([package, *(inner[:-1] if inner[-1] == "__init__" else inner)])
                    for one in DEFINITION.findall(path.read_bytes()):
                        found.setdefault(one.decode(), []).append(name)
            self._indices[package] = found
        return self._indices[package]

    def _member(self, module, node, rest, depth):
        for name in rest:
            found = self._attribute(module, node, name, depth)
            if found is None:
                raise LookupError(f"{node.name} of {module.name} has no {name}")
            module, node = found
        return module, node

    def _attribute(self, module, node, name, depth):
        """A method of a class, looked up in its base classes too."""
        for child in _top_level(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name == name:
                return module, child
        for base in self.bases(module, node, depth):
            found = self._attribute(*base, name, depth - 1)
            if found:
                return found
        return None

    def bases(self, module, node, depth=DEPTH):
        for base in getattr(node, "bases", ()) if depth else ():
            name = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
            try:
                yield self.find(module.meant(name), depth - 1)
            except LookupError:
                continue  # of the standard library, or of a package that is not in these folders
