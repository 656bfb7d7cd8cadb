"""Compile kernels for real, down to PTX, with no GPU, no files and no `ptxas`, inside the lock-down.

Compiling runs code (Triton evaluates calls to builtin functions while it compiles), so it happens in a child of a second
zygote, in which Triton is not interpreted. Types and constants are those that the interpreted launches had; a kernel that was
never launched is not compiled. What this shows: the program is Triton, for the whole compiler, not only for the interpreter.
"""

import functools
import hashlib
import inspect
import json
import linecache
import os
import sys
import types

from rftlab.kernels import devices
from rftlab.kernels.child import FILE, MODULE, bounded, describe, load_text
from rftlab.kernels.facts import decode, facts
from rftlab.kernels.offline import lowering, new_context

SHARED_MEMORY = {75: 65536, 80: 166912, 86: 101376, 87: 166912, 89: 101376, 90: 232448, 100: 232448, 120: 101376}  # bytes a program may use


class Absent(types.ModuleType):
    """Stands for torch, which kernels cannot use: every name in it exists and does nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(name)

    def __call__(self, *args, **kwargs):
        return self

    def __or__(self, other):
        return self

    __ror__ = __getitem__ = __or__


class SourceReader:
    """Stands for `inspect` where Triton asks it for a kernel's source: a program has one statement a line, so its indentation tells."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, name)

    def getsourcelines(self, function) -> tuple[list[str], int]:
        code = function.__code__
        if code.co_filename != FILE:
            return self.module.getsourcelines(function)
        lines, first = linecache.cache[FILE][2], code.co_firstlineno
        at = next(i for i in range(first - 1, len(lines)) if lines[i].lstrip(" ").startswith("def "))
        margin = len(lines[at]) - len(lines[at].lstrip(" "))
        end = next((i for i in range(at + 1, len(lines)) if lines[i].strip() and len(lines[i]) - len(lines[i].lstrip(" ")) <= margin), len(lines))
        return lines[first - 1 : end], first


def prepare() -> int:
    """Import Triton without torch, and compile once. Returns libdevice's bitcode as an open file: children find it as file 0."""
    torch = sys.modules["torch"] = Absent("torch")
    import triton
    import triton.language.extra.cuda.libdevice  # noqa: F401  (what programs may import has to be here already)
    import triton.language.extra.libdevice  # noqa: F401
    import triton.tools.tensor_descriptor  # noqa: F401
    from triton.backends.nvidia import compiler as nvidia
    from triton.runtime import jit

    jit.inspect = SourceReader(inspect)
    for name in ("autotune", "heuristics"):
        setattr(triton, name, lambda *_, **__: lambda function: function)
    torch.cuda = Absent("torch.cuda")
    devices.install(torch, triton)
    path = os.path.join(os.path.dirname(nvidia.__file__), "lib", "libdevice.10.bc")
    bitcode = os.open(path, os.O_RDONLY)
    warm_up(bitcode)
    return bitcode


WARM = """
import triton
import triton.language as tl
@triton.jit
def helper(x):
    return x * 2.0
@triton.jit
def kernel(x, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, mask=i < n, other=0.0)
    for _ in range(n):
        v += tl.sum(tl.math.erf(helper(v)), 0) + tl.max(v, 0)
    tl.store(x + i, v, mask=i < n)
"""


def warm_up(bitcode: int) -> None:
    null = os.dup(0)
    os.dup2(bitcode, 0)
    launch = {"kernel": "kernel", "signature": {"x": "*fp32", "n": "i32", "B": {"constant": 64}}, "options": {}, "full": True}
    to_ptx(load_text(WARM), launch, 80)
    os.dup2(null, 0)
    os.close(null)
    del sys.modules[MODULE]


def work(job: dict, memory, note) -> None:
    """Compile the launches of a job: {"text", "target", "launches": [{"kernel", "signature", "options", "full"}]}."""
    try:
        module = load_text(job["text"])
        if facts(module) != job["facts"]:
            raise ValueError("global values or defaults are not the same at compile time as in the run")
    except BaseException as error:
        for number in range(len(job["launches"])):
            note(refused=describe(error), launch=number)
        return
    for number, launch in enumerate(job["launches"]):
        try:
            note(compiled=number, **to_ptx(module, launch, job["target"]))
        except BaseException as error:
            try:
                said = explain(error, module)
            except Exception:
                said = describe(error)
            note(refused=said, launch=number)


def to_ptx(module, launch: dict, capability: int) -> dict:
    """Compile one launch, or with "full" off only through Triton's front end; raises what Triton raises.

    Returns the size of the PTX and the shared memory of a program, in bytes. Raises ValueError for too much of the latter.
    """
    signature = {k: "constexpr" if isinstance(v, dict) else kinds(v) for k, v in launch["signature"].items()}
    constants = {(i,): decode(v["constant"], module) for i, v in enumerate(launch["signature"].values()) if isinstance(v, dict)}
    options = {**launch["options"], "extern_libs": {"libdevice": "-"}}  # LLVM reads "-" from file 0
    os.lseek(0, 0, os.SEEK_SET)
    for _, code, metadata in lowering(getattr(module, launch["kernel"]), signature, constants, capability, options, context()):
        if not launch["full"]:
            return {"ptx": 0, "shared": 0}
    most = SHARED_MEMORY.get(capability)
    if most and metadata["shared"] > most:
        raise ValueError(f"{launch['kernel']} needs {metadata['shared']} bytes of shared memory, sm_{capability} has {most}")
    return {"ptx": len(code), "shared": metadata["shared"]}


@functools.cache
def context():
    """MLIR's context with all dialects, made once in the zygote: it has no threads, and a fork copies it."""
    return new_context()


def kinds(value):
    """A type from JSON: lists stand for tuples of arguments."""
    return tuple(map(kinds, value)) if isinstance(value, list) else value


def explain(error: BaseException, module) -> str:
    """The innermost message of a compilation error, with the program's line."""
    from triton.compiler.errors import CompilationError

    line, text = describe(error).split("|", 1)
    while error is not None:
        if isinstance(error, CompilationError):
            text = error.error_message or next((part for part in reversed(str(error).splitlines()) if part.strip()), text)
            line = getattr(error.node, "lineno", 0) + lines_before(error.src, module)
        elif error.__cause__ is None:
            text = f"{type(error).__name__}: {error}"
        error = error.__cause__
    return bounded(f"{line}|{text[:300]}")


def lines_before(source: str | None, module) -> int:
    """How many lines of the program come before the kernel with this source: an error counts from its `def`."""
    for value in vars(module).values():
        if source is not None and getattr(value, "src", None) == source:
            return value.starting_line_number - 1 + next(i for i, line in enumerate(value.raw_src) if line.startswith("def "))
    return 0


def key(text: str, launch: dict, target: int) -> str:
    """What a verdict on a launch depends on."""
    return hashlib.sha256(json.dumps([text, launch, target]).encode()).hexdigest()
