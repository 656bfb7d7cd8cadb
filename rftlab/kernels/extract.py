"""From a completion to the one program text that everything later reads.

A completion is prose with exactly one fenced block:

    ```python
    import torch ...
    ```

Markdown readers, Python's tokenizer, Triton's interpreter (which looks for lines that start with "def ") and Triton's compiler
(which uses a regular expression) read odd source text in different ways, and each difference is a place to hide code. So
the block is parsed once and printed again: comments, docstrings, form feeds, continued lines, encoding declarations, odd
line ends and look-alike letters are gone, every statement is a line of its own, and this text alone is checked, run and compiled.
"""

import ast
import re
import threading
import unicodedata
import warnings
from dataclasses import dataclass

MAX_COMPLETION = 200_000  # characters, prose included
MAX_CODE = 20_000
FILE = "<completion>"  # stands for the file name in tracebacks
FENCE = "```"
BODIES = ("body", "orelse", "finalbody", "handlers", "cases")
F_STRING = re.compile(r"[fF][rR]?['\"]|[rR][fF]['\"]")
PLAIN = re.compile(r"[\n\t -~]*")
COOKIE = re.compile(r"[ \t]*#.*?coding[:=][ \t]*([-\w.]+)", re.ASCII)  # PEP 263
OPENINGS = {FENCE + name for name in ("python", "bash", "sh", "shell", "console", "text", "txt", "json", "output")}
THINKING = ("think", "thinking", "thought", "reasoning", "scratchpad")
PARSING = threading.Lock()
HIDING = ("~~~", "<!--", "<pre", "<script", "<style", "<textarea")  # before the block, each makes it literal text for some reader

for _category in (SyntaxWarning, DeprecationWarning):  # Python's remarks on a stranger's style
    warnings.filterwarnings("ignore", category=_category, module=FILE)


class FormatError(ValueError):
    """The completion holds no usable program; the message says why, with the line in the block where there is one."""


@dataclass(frozen=True)
class Program:
    """A program in its one spelling. `lines[n]` is the line of the block, as written, that line n of `text` comes from."""

    text: str
    tree: ast.Module  # parsed from `text`
    lines: dict[int, int]

    def line(self, number: int) -> int:
        """The line in the block as written of a line of `text`."""
        return self.lines.get(number, number)


def parse(code: str) -> ast.Module:
    """ast.parse, in one thread at a time: in several, CPython 3.11 once raised SystemError, "recursion depth mismatch" (seen once)."""
    with PARSING:
        return ast.parse(code, FILE)


def extract(completion: str) -> Program:
    """Return the program of a completion; raises FormatError, and nothing else, for any string that holds none."""
    code = fenced_block(completion)
    refuse_hidden_characters(code)
    try:
        tree = parse(code)
        return print_again(tree, code)
    except SyntaxError as error:
        raise FormatError(f"line {error.lineno}: the block is not Python: {error.msg}") from None
    except (RecursionError, MemoryError, ValueError, OverflowError, UnicodeError) as error:
        raise FormatError(f"the block cannot be parsed: {type(error).__name__}") from None


def fenced_block(completion: str) -> str:
    """The content of the one ```python block, with "\\n" as line end; raises FormatError when there is not exactly one.

    Other blocks may stand beside it when they say that they are not Python (```bash).
    """
    if not isinstance(completion, str):
        raise FormatError(f"a completion is a string, not {type(completion).__name__}")
    if len(completion) > MAX_COMPLETION:
        raise FormatError(f"the completion has {len(completion)} characters, more than {MAX_COMPLETION}")
    lines = completion.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    fences = [i for i, line in enumerate(lines) if FENCE in line]
    names = [lines[i].rstrip(" \t") for i in fences]
    opening, closing = names[::2], names[1::2]
    if opening.count(FENCE + "python") != 1:
        raise FormatError(f"expected exactly one ```python block, found {opening.count(FENCE + 'python')}")
    if len(opening) != len(closing) or set(closing) != {FENCE} or not set(opening) <= OPENINGS:
        raise FormatError("a block opens with ```python and closes with ```, with nothing else on those lines")
    at = opening.index(FENCE + "python")
    first, last = fences[2 * at], fences[2 * at + 1]
    before, after = "\n".join(lines[:first]).lower(), "\n".join(lines[last + 1 :]).lower()
    if any(mark in before for mark in HIDING):
        raise FormatError("markup before the block (~~~, a comment, <pre>) makes it literal text: leave it out")
    for tag in THINKING:
        if before.count(f"<{tag}>") > before.count(f"</{tag}>") or f"</{tag}>" in after:
            raise FormatError(f"the block is inside <{tag}>: the answer comes after </{tag}>")
    code = "\n".join(lines[first + 1 : last])
    if len(code) > MAX_CODE:
        raise FormatError(f"the block has {len(code)} characters, more than {MAX_CODE}")
    return code


def refuse_hidden_characters(code: str) -> None:
    """Refuse what readers of the text could disagree on: an encoding other than UTF-8, and characters that do not show.

    Control, direction, zero-width, private and unassigned characters have no honest use in a program. Only joiners have, in words of other
    languages and in emoji, which are comments and strings: Python refuses them in a name."""
    for line in code.split("\n")[:2]:
        cookie = COOKIE.match(line)
        if cookie and cookie[1].lower() not in ("utf-8", "utf8", "ascii"):
            raise FormatError(f"the block declares the encoding {cookie[1][:20]}: it is text already")
    if PLAIN.fullmatch(code):
        return
    for number, line in enumerate(code.split("\n"), 1):
        for character in line:
            if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and character not in "\t\u200c\u200d":
                raise FormatError(f"line {number}: the character U+{ord(character):04X} is invisible or changes the line: leave it out")


def print_again(tree: ast.Module, code: str) -> Program:
    """The program without docstrings and without the block for running as a script, and where its lines come from."""
    tree.body = [statement for statement in tree.body if not _is_main_block(statement)]
    for node in [tree, *statements(tree)]:
        for name in BODIES:
            if kept := getattr(node, name, None):
                left = [s for s in kept if not _is_bare_constant(s)]
                setattr(node, name, left or ([] if node is tree or name == "orelse" else [_pass_at(node)]))
    f_strings = bool(F_STRING.search(code))
    for node in ast.walk(tree) if f_strings else ():
        if isinstance(node, ast.JoinedStr):  # printed over several lines when it holds a line end
            for part in node.values:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    part.value = " ".join(part.value.split("\n")).replace("\r", " ")
    text = ast.unparse(tree) + "\n"
    again = parse(text)
    for node in ast.walk(again) if f_strings else ():
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and node.lineno != node.end_lineno:
            raise FormatError(f"line {node.lineno}: a string over several lines")
    lines = {}
    for old, new in zip(statements(tree), statements(again)):
        for before, now in zip([*getattr(old, "decorator_list", ()), old], [*getattr(new, "decorator_list", ()), new]):
            if hasattr(now, "lineno"):  # a `case` has none
                lines.setdefault(now.lineno, before.lineno)
    return Program(text, again, lines)


def statements(tree: ast.AST) -> list[ast.AST]:
    """All statements below a node, with `except` and `case` clauses: each starts a line of its own in a printed tree."""
    found = []
    for name in BODIES:
        for node in getattr(tree, name, ()):
            found += [node, *statements(node)]
    return found


def _is_main_block(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":`, which never runs here."""
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test) in ("__name__ == '__main__'", "'__main__' == __name__")


def _is_bare_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _pass_at(node: ast.AST) -> ast.Pass:
    return ast.Pass(lineno=getattr(node, "lineno", 1), col_offset=0)
