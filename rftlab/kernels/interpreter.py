"""Triton's interpreter, made fit for grading: patched once in the zygote, before any program is there.

What differs from Triton's own, besides `rewriting`, `operations` and `folding`:
- grid functions see plain values, and run before the launch, not inside it; unknown launch options are refused, as on a GPU;
- programs run in a shuffled order, and every address passes the `sanitizer`;
- autotune uses one configuration per test case, in turn, and tries another first, as it does on a GPU when its key is new;
"""

import ctypes
import functools
import inspect
import math
import random
import types

import torch
import triton
import triton.language as tl
from triton._C.libtriton import native_specialize_impl
from triton.backends.compiler import BaseBackend
from triton.runtime import autotuner, interpreter, jit
from triton.runtime.jit import KernelInterface, KernelParam
from triton.tools.tensor_descriptor import TensorDescriptor

from rftlab.kernels import folding, operations, rewriting
from rftlab.kernels.sanitizer import Sanitizer

LAUNCH_OPTIONS = frozenset(("num_warps", "num_stages", "num_ctas", "maxnreg", "enable_fp_fusion"))
MAX_PROGRAMS = 1 << 20
MAX_CONFIGURATIONS = 48  # of autotune: each is tried, and compiled
MAX_GRID = (2**31 - 1, 65535, 65535)  # CUDA's


class State:
    """What the grader wants from the next launches."""

    case = 0  # picks the configuration of autotune
    configurations = 1  # how many there are
    tuned = False  # the configuration is chosen, none is tried
    trial = False  # autotune launches, and may drop what does not fit a GPU
    order = random.Random(0)
    backwards = False  # run the programs in the opposite order
    on_launch = staticmethod(lambda *_: None)  # (function, bound arguments, options, grid, sanitizer), when a launch starts


state = State()


def install() -> None:
    """Patch Triton in this process."""
    rewriting.install()
    everywhere = type("", (), {"__globals__": {"tl": tl, "core": tl.core}})
    interpreter._patch_lang(everywhere)  # for good, not anew in each launch
    interpreter._patch_lang = None
    interpreter.InterpretedFunction.__init__ = wrap
    interpreter.InterpretedFunction.run = launch
    interpreter.InterpretedFunction.__call__ = call_from_kernel
    triton.jit = jit.jit = lambda fn=None, **options: interpreter.InterpretedFunction(fn, **options) if fn else functools.partial(triton.jit, **options)
    triton.autotune = autotuner.autotune = lambda configs, key=(), **options: lambda fn: Tuned(fn, configs, key, **options)
    operations.install()
    folding.install()
    tl.range = rewriting.counting


def wrap(self, fn, **options):
    """`@triton.jit`, without a look at the function's signature through `inspect`, which is slow in a fresh fork."""
    self.fn, self.kwargs, self.pre_run_hooks = fn, options, []
    fn.do_not_specialize = tuple(options.get("do_not_specialize") or ())
    self.rewriter = interpreter.FunctionRewriter(fn, **options)
    self.arg_names = list(names_of(fn))


def call_from_kernel(self, *args, **kwargs):
    if operations.running is None:
        raise RuntimeError(f"{self.__name__} is a kernel: launch it as {self.__name__}[grid](...)")
    asked = operations.decisions
    result = self.rewrite()(*args, **kwargs)
    by_the_run = operations.decisions > asked and isinstance(result, (int, float, tuple))  # then the compiler knows no number
    return rewriting.assigned(result) if by_the_run else result


class Tuned(KernelInterface):
    """An autotuned kernel: case i of a task runs configuration i, counted around, when the next one has been tried on the same tensors."""

    def __init__(self, fn, configs, key=(), prune_configs_by=None, reset_to_zero=None, restore_value=None, **_):
        self.fn, self.arg_names, self.configs = fn, fn.arg_names, list(configs) or [triton.Config({})]
        self.prune, self.key, self.tried = (prune_configs_by or {}).get("early_config_prune"), list(key), set()
        self.kept = [*(reset_to_zero or ()), *(restore_value or ())]
        if unknown := {*self.key, *self.kept} - set(self.arg_names):
            raise ValueError(f"autotune names {sorted(unknown)[0]}, which is no argument of the kernel")
        if len(self.configs) > MAX_CONFIGURATIONS:
            raise ValueError(f"autotune with more than {MAX_CONFIGURATIONS} configurations")

    def run(self, *args, **kwargs):
        configs = self.configs if self.prune is None else list(self.prune(self.configs, dict(zip(self.arg_names, args)), **kwargs))
        named = {**dict(zip(self.arg_names, args)), **kwargs}
        key = tuple(value if isinstance(value := named.get(name), (int, float, str)) else None for name in self.key)
        state.configurations = max(state.configurations, len(configs))
        if len(configs) > 1 and not state.tuned and key not in self.tried:
            self.tried.add(key)
            memory = [storage_of(named[name]) for name in self.kept if isinstance(named.get(name), torch.Tensor)]
            before = [ctypes.string_at(*place) for place in memory]
            self.run_one(configs[(state.case + 1) % len(configs)], args, kwargs, True)
            for (address, _), raw in zip(memory, before):
                ctypes.memmove(address, raw, len(raw))
        return self.run_one(configs[state.case % len(configs)], args, kwargs, len(configs) > 1)

    def run_one(self, config, args, kwargs, trial: bool):
        chosen = config.all_kwargs()
        if both := chosen.keys() & {k for k in kwargs if k not in LAUNCH_OPTIONS}:
            raise ValueError(f"conflicting meta-parameters: {', '.join(sorted(both))} set by autotune and by the launch")
        if config.pre_hook is not None:
            config.pre_hook({**dict(zip(self.arg_names, args)), **kwargs, **chosen})
        state.trial = trial
        try:
            return self.fn.run(*args, **{**kwargs, **chosen})
        finally:
            state.trial = False


def storage_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Address and size of a tensor's memory."""
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


def launch(self, *args, grid, warmup=False, **kwargs):
    """`kernel[grid](...)`: bind, evaluate the grid, run the programs one after another in a shuffled order."""
    if operations.running is not None:
        raise RuntimeError("a kernel cannot launch a kernel")
    if warmup:
        return None
    options = {k: v for k, v in kwargs.items() if k not in self.arg_names}
    if unknown := options.keys() - LAUNCH_OPTIONS:
        raise KeyError(f"the launch option {sorted(unknown)[0]} is not known; {self.__name__} takes {', '.join(self.arg_names)}")
    bound = bind(self.fn, args, {k: v for k, v in kwargs.items() if k in self.arg_names})
    programs = programs_of(grid(dict(bound)) if callable(grid) else grid)
    constants = {p.name for p in parameters(self.fn) if p.is_constexpr}
    function = self.rewrite()
    sanitizer = operations.running = Sanitizer(spans(bound.values()))
    try:
        state.on_launch(self.fn, bound, options, programs, sanitizer)
        values = {name: value if name in constants else interpreter._implicit_cvt(value) for name, value in bound.items()}
        builder = interpreter.interpreter_builder
        builder.set_grid_dim(*programs)
        for number in shuffled(math.prod(programs)):
            sanitizer.program = number
            builder.set_grid_idx(number // (programs[1] * programs[2]), number // programs[2] % programs[1], number % programs[2])
            function(**values)
        sanitizer.close()
    finally:
        operations.running = None
    return None


def shuffled(count: int) -> list[int]:
    """The numbers of the programs in the order in which they run: never the natural one, if there are two; or its opposite."""
    numbers = list(range(count))
    state.order.shuffle(numbers)
    if numbers == sorted(numbers):
        numbers.reverse()
    return numbers[::-1] if state.backwards else numbers


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


def names_of(fn) -> tuple[str, ...]:
    """The names of a function's parameters."""
    code = fn.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def bind(fn, args: tuple, kwargs: dict) -> dict:
    """A launch's arguments by name, in the order of the kernel's parameters; raises TypeError as Python does."""
    names, defaults = names_of(fn), fn.__defaults__ or ()
    if len(args) > len(names) or fn.__code__.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        raise TypeError(f"{fn.__name__} takes {len(names)} arguments but {len(args)} were given, or it has * or ** in its signature")
    if both := [name for name in names[: len(args)] if name in kwargs]:
        raise TypeError(f"multiple values for argument {both[0]!r}")
    positional = names[: fn.__code__.co_argcount]
    given = {**dict(zip(positional[len(positional) - len(defaults) :], defaults)), **(fn.__kwdefaults__ or {}), **dict(zip(names, args)), **kwargs}
    if missing := [name for name in names if name not in given]:
        raise TypeError(f"missing a required argument: {missing[0]!r}")
    return {name: given[name] for name in names}


@functools.cache
def parameters(fn) -> list[KernelParam]:
    """Triton's view of a kernel's parameters: which are constexpr, which have a type."""
    plain = [types.SimpleNamespace(name=name, annotation=fn.__annotations__.get(name)) for name in names_of(fn)]
    return [KernelParam(i, one, bool({i, one.name} & {*fn.do_not_specialize}), False) for i, one in enumerate(plain)]


def becomes_constant(parameter: KernelParam, value) -> bool:
    """Whether Triton compiles this argument as a constexpr although the kernel does not say so: a whole number that is 1, as of strides."""
    return type(value) is int and value == 1 and not parameter.annotation_type and not parameter.do_not_specialize


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


def specialization(value):
    """Triton's name for the type of a launch argument: "*fp32", "i32", "constexpr" ...; for a tuple, those of its elements."""
    if type(value) is tuple:
        return tuple(map(specialization, value))
    return native_specialize_impl(BaseBackend, value, False, False, False)[0]
