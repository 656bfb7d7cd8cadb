"""Triton's interpreter, made fit for grading: patched once in the zygote, before any program is there.

What differs from Triton's own:
- the interpreted source is taken from the one syntax tree of the program, not searched for in text;
- nothing is put into the program's globals (Triton puts 64 names there, numpy among them);
- grid functions see plain values, and run before the launch, not inside it; unknown launch options are refused, as on a GPU;
- programs run in a shuffled order, and every address passes the `sanitizer`;
- autotune uses one configuration per test case, in turn, so that each one is tested;
- bfloat16 rounds and computes as on a GPU (Triton's adds the bit patterns as integers).
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

from rftlab.kernels.child import FILE
from rftlab.kernels.sanitizer import Sanitizer, undefined

LAUNCH_OPTIONS = {"num_warps": 4, "num_stages": 3, "num_ctas": 1, "maxnreg": None, "enable_fp_fusion": True}
MAX_PROGRAMS = 1 << 20

Builder = interpreter.InterpreterBuilder
Handle = interpreter.TensorHandle


class State:
    """What the grader wants from the next launches and what it learnt; one object, since launches are nested in calls."""

    case = 0  # picks the configuration of autotune
    stores = True  # False in the ablation: nothing that a kernel stores reaches memory
    launched = None  # the running launch's Sanitizer
    definitions: dict[int, ast.FunctionDef] = {}  # first line -> function, of the program under test
    order = random.Random(0)
    on_launch = staticmethod(lambda *_: None)  # (function, bound arguments, options, programs, findings) after a launch starts


state = State()


def read_program(tree: ast.Module) -> None:
    """Make the functions of a program known, from its syntax tree."""
    state.definitions = {
        (node.decorator_list[0] if node.decorator_list else node).lineno: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }


def install() -> None:
    """Patch Triton in this process."""
    builtins.interpreter_semantic = interpreter.interpreter_semantic
    interpreter.FunctionRewriter._compile_and_exec = compile_and_exec
    for module in (tl.standard, tl.random):  # their sources cannot be read after the lock-down
        for value in list(vars(module).values()):
            if isinstance(value, interpreter.InterpretedFunction):
                value.rewrite()
    everywhere = type("", (), {"__globals__": {"tl": tl, "core": tl.core}})
    interpreter._patch_lang(everywhere)  # for good, not anew in each launch
    interpreter._patch_lang = None
    interpreter.FunctionRewriter.rewrite_ast = rewrite
    interpreter.InterpretedFunction.run = launch
    interpreter.InterpretedFunction.__call__ = call_from_kernel
    triton.autotune = autotuner.autotune = lambda configs, *_, **__: lambda fn: Tuned(fn, configs)
    Builder.create_masked_load, Builder.create_masked_store = masked_load, masked_store
    Builder.create_atomic_rmw, Builder.create_atomic_cas = atomic_rmw, atomic_cas
    for name in ("binary_op", "unary_op", "ternary_op"):
        setattr(Builder, name, in_float32(getattr(Builder, name)))
    Builder.cast_impl = cast
    Builder.create_fp_to_fp = lambda self, value, to, rounding: cast(self, value, to)
    Builder.create_dot, Builder.create_fma = in_float32(Builder.create_dot), in_float32(Builder.create_fma)


def rewrite(self):
    """The interpreted form of a kernel of the program: its own tree, with the assignments that Triton's semantics need."""
    node = state.definitions.get(self.fn.__code__.co_firstlineno)
    if node is None or node.name != self.fn.__name__:
        return self.fn
    node = copy.deepcopy(node)
    node.decorator_list = []
    self.filename = FILE
    return self._compile_and_exec(ast.fix_missing_locations(self.ast_transformer.visit(ast.Module([node], []))))


def compile_and_exec(self, tree):
    """Triton's own, less the names that it adds to the globals: what the interpreter needs is a builtin here."""
    names = dict(self.kwargs)
    exec(compile(tree, self.filename, "exec"), self.fn.__globals__, names)
    return names[self.fn.__name__]


def call_from_kernel(self, *args, **kwargs):
    if state.launched is None:
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
    if state.launched is not None:
        raise RuntimeError("a kernel cannot launch a kernel")
    if warmup:
        return None
    options = {k: v for k, v in kwargs.items() if k not in self.arg_names}
    if unknown := options.keys() - LAUNCH_OPTIONS.keys():
        raise KeyError(f"the launch option {sorted(unknown)[0]} is not known; {self.__name__} takes {', '.join(self.arg_names)}")
    bound = inspect.signature(self.fn).bind(*args, **{k: v for k, v in kwargs.items() if k in self.arg_names})
    bound.apply_defaults()
    programs = programs_of(grid(dict(bound.arguments)) if callable(grid) else grid)
    constants = {p.name for p in parameters(self.fn) if p.is_constexpr}
    function, values = self.rewrite(), {}
    sanitizer = state.launched = Sanitizer(spans(bound.arguments.values()))
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
        state.launched = None
    return None


def programs_of(grid) -> tuple[int, int, int]:
    """A grid as three numbers; raises ValueError for what a GPU would not launch."""
    sizes = tuple(grid)
    if not 1 <= len(sizes) <= 3 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in sizes):
        raise ValueError(f"the grid is {sizes!r}, expected one to three whole numbers")
    sizes += (1,) * (3 - len(sizes))
    if sizes[0] * sizes[1] * sizes[2] > MAX_PROGRAMS:
        raise ValueError(f"the grid {sizes} has more than {MAX_PROGRAMS} programs")
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


def _guard(kind: str, ptrs, mask, values=None, orders=False) -> np.ndarray:
    """The lanes of a memory operation that may go through."""
    if state.launched is None:
        raise RuntimeError(f"a {kind} outside a kernel launch")
    width = max(1, ptrs.get_element_ty().primitive_bitwidth // 8)
    lanes = np.broadcast_to(np.asarray(getattr(mask, "data", mask), bool), ptrs.data.shape)
    return state.launched.see(kind, ptrs.data, lanes, width, values, orders)


def masked_load(self, ptrs, mask, other, cache_modifier, eviction_policy, is_volatile):
    lanes = _guard("load", ptrs, mask)
    element = ptrs.get_element_ty()
    dtype = interpreter._get_np_dtype(element)
    filler = np.full(ptrs.data.shape, undefined(dtype, element == tl.bfloat16), dtype) if other is None else other.data
    return Handle(interpreter._interpreter.load(ptrs.data, np.ascontiguousarray(lanes), filler, dtype), element)


def masked_store(self, ptrs, value, mask, cache_modifier, eviction_policy):
    lanes = _guard("store", ptrs, mask, value.data)
    if state.stores:
        interpreter._interpreter.store(ptrs.data, value.data, np.ascontiguousarray(lanes))


def atomic_rmw(self, operation, ptr, value, mask, sem, scope):
    lanes = np.ascontiguousarray(_guard("atomic", ptr, mask, orders=sem != interpreter._ir.MEM_SEMANTIC.RELAXED))
    operation, sem = self.ir_rmw_op_to_interpreter_rmw_op[operation], self.ir_sem_to_interpreter_sem[sem]
    if not state.stores:
        return Handle(interpreter._interpreter.load(ptr.data, lanes, np.zeros_like(value.data), value.data.dtype), value.dtype.scalar)
    return Handle(interpreter._interpreter.atomic_rmw(operation, ptr.data, value.data, lanes, sem), value.dtype.scalar)


def atomic_cas(self, ptr, compare, value, sem, scope):
    lanes = _guard("atomic", ptr, np.ones(ptr.data.shape, bool), orders=sem != interpreter._ir.MEM_SEMANTIC.RELAXED)
    if not lanes.all() or not state.stores:
        filler = np.zeros_like(value.data)
        return Handle(interpreter._interpreter.load(ptr.data, np.ascontiguousarray(lanes), filler, value.data.dtype), compare.dtype.scalar)
    sem = self.ir_sem_to_interpreter_sem[sem]
    return Handle(interpreter._interpreter.atomic_cas(ptr.data, compare.data, value.data, sem), compare.dtype.scalar)


def widen(handle):
    """A bfloat16 handle as float32; any other as it is."""
    if isinstance(handle, Handle) and handle.get_element_ty() == tl.bfloat16 and not isinstance(handle.dtype, tl.pointer_type):
        return Handle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)
    return handle


def narrow(values: np.ndarray):
    """float32 values as a bfloat16 handle, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype(np.uint16)
    return Handle(np.where(np.isnan(values), np.uint16(0x7FC0), rounded), tl.bfloat16)


def in_float32(operation):
    """An operation of the builder on bfloat16, computed in float32 and rounded once."""

    def on_handles(self, *args):
        wide = [widen(a) for a in args]
        if all(w is a for w, a in zip(wide, args)):
            return operation(self, *args)
        result = operation(self, *wide)
        return narrow(result.data) if result.data.dtype == np.float32 and result.dtype == tl.float32 and not _wants_float32(args) else result

    return on_handles


def _wants_float32(args) -> bool:
    """A float32 operand, such as the accumulator of a product of bfloat16 blocks, keeps the result in float32."""
    return any(isinstance(a, Handle) and a.dtype.scalar == tl.float32 for a in args)


def cast(self, value, to):
    """Numeric conversion between any two scalar types."""
    wide, target = widen(value), to.scalar
    if target == tl.bfloat16:
        return narrow(wide.data.astype(np.float32))
    if target.is_fp8() or value.dtype.scalar.is_fp8():
        data = interpreter._convert_float(wide.data, wide.dtype.scalar, target, interpreter._ir.ROUNDING_MODE.RTNE)
        return Handle(data.view(interpreter._get_np_dtype(target)), target)
    return Handle(wide.data.astype(interpreter._get_np_dtype(target)), target)
