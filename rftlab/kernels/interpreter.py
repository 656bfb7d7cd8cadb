"""Triton's interpreter, made fit for grading: patched once in the zygote, before any program is there.

What differs from Triton's own:
- the interpreted source is taken from the one syntax tree of the program, not searched for in text;
- nothing is put into the program's globals (Triton puts 64 names there, numpy among them);
- grid functions see plain values, and run before the launch, not inside it; unknown launch options are refused, as on a GPU;
- programs run in a shuffled order, and every address passes the `sanitizer`;
- autotune uses one configuration per test case, in turn, so that each one is tested;
- loops over `range` count in int32, as on a GPU, not in Python's integers.
"""

import ast
import builtins
import copy
import inspect
import random

import numpy as np
import torch
import triton
import triton.language as tl
from triton._C.libtriton import native_specialize_impl
from triton.backends.compiler import BaseBackend
from triton.runtime import autotuner, interpreter
from triton.runtime.jit import KernelInterface, KernelParam
from triton.tools.tensor_descriptor import TensorDescriptor

from rftlab.kernels import operations
from rftlab.kernels.child import FILE
from rftlab.kernels.sanitizer import Sanitizer

LAUNCH_OPTIONS = frozenset(("num_warps", "num_stages", "num_ctas", "maxnreg", "enable_fp_fusion"))
MAX_PROGRAMS = 1 << 20
MAX_GRID = (2**31 - 1, 65535, 65535)  # CUDA's


class State:
    """What the grader wants from the next launches."""

    case = 0  # picks the configuration of autotune
    definitions: dict[int, ast.FunctionDef] = {}  # first line -> function, of the program under test
    order = random.Random(0)
    on_launch = staticmethod(lambda *_: None)  # (function, bound arguments, options, grid, findings), when a launch starts


state = State()


def read_program(tree: ast.Module) -> None:
    """Make the functions of a program known, from its syntax tree."""
    state.definitions = {
        (node.decorator_list[0] if node.decorator_list else node).lineno: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }


def install() -> None:
    """Patch Triton in this process."""
    for name in ("interpreter_semantic", "_InterpreterComparison"):  # what rewritten functions call; Triton puts them into globals
        setattr(builtins, name, getattr(interpreter, name, None))
    builtins.interpreter_range = counting
    interpreter.FunctionRewriter._compile_and_exec = compile_and_exec
    for module in (tl.standard, tl.random):  # their sources cannot be read after the lock-down
        for value in list(vars(module).values()):
            if isinstance(value, interpreter.InterpretedFunction):
                value.rewrite()
    everywhere = type("", (), {"__globals__": {"tl": tl, "core": tl.core}})
    interpreter._patch_lang(everywhere)  # for good, not anew in each launch
    interpreter._patch_lang = None
    tl.range = counting
    interpreter.FunctionRewriter.rewrite_ast = rewrite
    interpreter.InterpretedFunction.run = launch
    interpreter.InterpretedFunction.__call__ = call_from_kernel
    triton.autotune = autotuner.autotune = lambda configs, *_, **__: lambda fn: Tuned(fn, configs)
    operations.install()


def rewrite(self):
    """The interpreted form of a kernel of the program: its own tree, with the assignments that Triton's semantics need."""
    node = state.definitions.get(self.fn.__code__.co_firstlineno)
    if node is None or node.name != self.fn.__name__:
        return self.fn
    node = copy.deepcopy(node)
    node.decorator_list = []
    for part in ast.walk(node):
        if isinstance(part, ast.For) and isinstance(part.iter, ast.Call) and isinstance(part.iter.func, ast.Name) and part.iter.func.id == "range":
            part.iter.func.id = "interpreter_range"
    self.filename = FILE
    return self._compile_and_exec(ast.fix_missing_locations(self.ast_transformer.visit(ast.Module([node], []))))


def compile_and_exec(self, tree):
    """Triton's own, less the names that it adds to the globals: what the interpreter needs is a builtin here."""
    names = dict(self.kwargs)
    exec(compile(tree, self.filename, "exec"), self.fn.__globals__, names)
    return names[self.fn.__name__]


def counting(first, end=None, step=1, **_):
    """`range` and `tl.range` of a kernel: yields int32 scalars of the interpreter, as the compiler's loops do."""
    first, end = (0, first) if end is None else (first, end)
    for i in range(first, end, step):
        yield interpreter.interpreter_semantic.to_tensor(i)


def call_from_kernel(self, *args, **kwargs):
    if operations.running is None:
        raise RuntimeError(f"{self.__name__} is a kernel: launch it as {self.__name__}[grid](...)")
    return self.rewrite()(*args, **kwargs)


class Tuned(KernelInterface):
    """An autotuned kernel: case i of a task runs configuration i, counted around."""

    def __init__(self, fn, configs):
        self.fn, self.arg_names, self.configs = fn, fn.arg_names, list(configs) or [triton.Config({})]

    def run(self, *args, **kwargs):
        config = self.configs[state.case % len(self.configs)]
        chosen = config.all_kwargs()
        if both := chosen.keys() & {k for k in kwargs if k not in LAUNCH_OPTIONS}:
            raise ValueError(f"conflicting meta-parameters: {', '.join(sorted(both))} set by autotune and by the launch")
        if config.pre_hook is not None:
            config.pre_hook({**dict(zip(self.arg_names, args)), **kwargs, **chosen})
        return self.fn.run(*args, **{**kwargs, **chosen})


def launch(self, *args, grid, warmup=False, **kwargs):
    """`kernel[grid](...)`: bind, evaluate the grid, run the programs one after another in a shuffled order."""
    if operations.running is not None:
        raise RuntimeError("a kernel cannot launch a kernel")
    if warmup:
        return None
    options = {k: v for k, v in kwargs.items() if k not in self.arg_names}
    if unknown := options.keys() - LAUNCH_OPTIONS:
        raise KeyError(f"the launch option {sorted(unknown)[0]} is not known; {self.__name__} takes {', '.join(self.arg_names)}")
    bound = inspect.signature(self.fn).bind(*args, **{k: v for k, v in kwargs.items() if k in self.arg_names})
    bound.apply_defaults()
    programs = programs_of(grid(dict(bound.arguments)) if callable(grid) else grid)
    constants = {p.name for p in parameters(self.fn) if p.is_constexpr}
    function, values = self.rewrite(), {}
    sanitizer = operations.running = Sanitizer(spans(bound.arguments.values()))
    try:
        state.on_launch(self.fn, bound.arguments, options, programs, sanitizer.findings)
        for name, value in bound.arguments.items():
            values[name] = value if name in constants else interpreter._implicit_cvt(value)
        numbers = list(range(int(np.prod(programs))))
        state.order.shuffle(numbers)
        if numbers == sorted(numbers):
            numbers.reverse()
        builder = interpreter.interpreter_builder
        builder.set_grid_dim(*programs)
        for number in numbers:
            sanitizer.program = number
            builder.set_grid_idx(*(int(i) for i in np.unravel_index(number, programs)))
            function(**values)
        sanitizer.close()
    finally:
        operations.running = None
    return None


def programs_of(grid) -> tuple[int, int, int]:
    """A grid as three numbers; raises ValueError for what a GPU would not launch."""
    sizes = tuple(grid)
    if not 1 <= len(sizes) <= 3 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in sizes):
        raise ValueError(f"the grid is {sizes!r}, expected one to three whole numbers")
    sizes += (1,) * (3 - len(sizes))
    if any(n > most for n, most in zip(sizes, MAX_GRID)):
        raise ValueError(f"the grid {sizes} is too large: CUDA allows at most {MAX_GRID}")
    if sizes[0] * sizes[1] * sizes[2] > MAX_PROGRAMS:
        raise ValueError(f"the grid {sizes} has more than {MAX_PROGRAMS} programs, too many for so small a case")
    return sizes


def parameters(fn) -> list[KernelParam]:
    return [KernelParam(i, p, False, False) for i, p in enumerate(inspect.signature(fn).parameters.values())]


def spans(values) -> list[tuple[int, int]]:
    """First address and the one past the last of each tensor among the arguments, as far as its memory reaches."""
    found = []
    for value in values:
        if isinstance(value, TensorDescriptor):
            value = value.base
        if isinstance(value, (tuple, list)):
            found += spans(value)
        elif isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            found.append((storage.data_ptr(), storage.data_ptr() + storage.nbytes()))
    return found


def specialization(value) -> str:
    """Triton's name for the type of a launch argument: "*fp32", "i32", "constexpr" ..."""
    kind = native_specialize_impl(BaseBackend, value, False, False, False)[0]
    return kind
