"""What a kernel's memory operations do in the interpreter: they go through the sanitizer. For the others see `arithmetic`.

Handles carry tickets: the atomic operations that a value depends on. A program that branches or masks by such a value has
waited for another program, which is what orders their accesses (`sanitizer`).
"""

import functools
import math

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

from rftlab.kernels import arithmetic
from rftlab.kernels.arithmetic import np_dtype
from rftlab.kernels.sanitizer import Access, Sanitizer, undefined

Builder, Handle = interpreter.InterpreterBuilder, interpreter.TensorHandle
TICKETS = "tickets"

running: Sanitizer | None = None  # of the launch that is running
decisions = 0  # how often a program went on by a value that only the run knows
stores = True  # False in the ablation: nothing that a kernel stores reaches memory


def install() -> None:
    """Patch the interpreter's builder."""
    arithmetic.install()
    Builder.create_masked_load, Builder.create_masked_store = masked_load, masked_store
    Builder.create_atomic_rmw, Builder.create_atomic_cas = atomic_rmw, atomic_cas
    Builder.create_atomic_load, Builder.create_atomic_store, Builder.create_atomic_poll = atomic_load, atomic_store, atomic_poll
    for name in ("binary_op", "unary_op", "ternary_op", "cast_impl", "create_idiv", "create_ashr", "create_splat", "create_broadcast",
                 "create_expand_dims", "create_reshape", "create_bitcast"):
        setattr(Builder, name, passing_tickets(getattr(Builder, name)))
    Builder.create_barrier = waiting(Builder.create_barrier)
    Builder.create_splat, Builder.create_broadcast = spreading(Builder.create_splat), spreading(Builder.create_broadcast)
    tl.tensor.__init__ = init_tensor
    semantic = type(interpreter.interpreter_semantic)
    semantic.broadcast_impl_value = unless_alike(semantic.broadcast_impl_value)
    truth = tl.tensor.__bool__

    def on_tensor(self):
        global decisions
        decisions += 1
        return decide(self.handle, truth(self))

    tl.tensor.__bool__ = on_tensor


def init_tensor(self, handle, kind) -> None:
    """Triton's own, with what depends on the shape alone made once."""
    self.handle, self.type, self.dtype = handle, kind, kind.scalar
    self.numel, self.shape = size_and_shape(kind.shape if kind.is_block() else ())


@functools.cache
def size_and_shape(shape: tuple[int, ...]):
    return tl.constexpr(math.prod(shape)), tl.tuple([tl.constexpr(size) for size in shape])


def unless_alike(broadcast):
    """Triton's broadcast of two operands, which copies both even where their shapes are the same."""

    def of_different_shapes(self, left, right):
        a, b = left.type, right.type
        alike = a.shape == b.shape if a.is_block() and b.is_block() else not a.is_block() and not b.is_block()
        return (left, right) if alike else broadcast(self, left, right)

    return of_different_shapes


def guard(kind: str, ptrs, mask, values=None, sem=None, scope=None) -> np.ndarray:
    """The lanes of a memory operation that may go through."""
    if running is None:
        raise RuntimeError(f"a {kind} outside a kernel launch")
    width = max(1, ptrs.get_element_ty().primitive_bitwidth // 8)
    if isinstance(mask, Handle):
        decide(mask, bool(np.any(mask.data)))
        mask = mask.data
    lanes = np.broadcast_to(np.asarray(mask, bool), ptrs.data.shape)
    private = scope == interpreter._ir.MEM_SYNC_SCOPE.CTA
    orders = sem not in (None, interpreter._ir.MEM_SEMANTIC.RELAXED) and not private
    return np.ascontiguousarray(running.see(kind, ptrs.data, lanes, width, values, orders, private))


def masked_load(self, ptrs, mask, other, *_, **__):
    lanes = guard("load", ptrs, mask)
    element = ptrs.get_element_ty()
    dtype = np_dtype(element)
    filler = undefined(ptrs.data.shape, dtype, element == tl.bfloat16) if other is None else other.data
    found = Handle(interpreter._interpreter.load(ptrs.data, lanes, filler, dtype), element)
    if ptrs.data.size == 1 and running.just_written(int(ptrs.data.flat[0])):
        found.attr = {TICKETS: (Access(running.time, running.program, "load", ptrs.data),)}
    return found


def masked_store(self, ptrs, value, mask, *_, **__):
    lanes = guard("store", ptrs, mask, value.data)
    if stores:
        interpreter._interpreter.store(ptrs.data, value.data, lanes)


def _everywhere(ptr) -> np.ndarray:
    return np.ones(ptr.data.shape, bool)


def _old_value(ptr, lanes, like):
    """What lies at the addresses, for an atomic that is not carried out."""
    return interpreter._interpreter.load(ptr.data, lanes, np.zeros_like(like), like.dtype)


def atomic_rmw(self, operation, ptr, value, mask, sem, scope):
    exchanges = operation == interpreter._ir.ATOMIC_OP.XCHG
    lanes = guard("atomic", ptr, mask, value.data if exchanges else None, sem, scope)
    takes = exchanges and _is_free(ptr, value, np.zeros_like(value.data))
    if takes and stores and running.refuses(int(ptr.data.flat[0])):
        return _with_ticket(Handle(value.data.copy(), value.dtype.scalar), False)
    if stores:
        old = interpreter._interpreter.atomic_rmw(self.ir_rmw_op_to_interpreter_rmw_op[operation], ptr.data, value.data, lanes, self.ir_sem_to_interpreter_sem[sem])
    else:
        old = _old_value(ptr, lanes, value.data)
    if not lanes.all():  # what an atomic returns where it is switched off is undefined on a GPU
        old = np.where(lanes, old, undefined(old.shape, old.dtype, value.dtype.scalar == tl.bfloat16))
    return _with_ticket(Handle(old, value.dtype.scalar), takes)


def atomic_cas(self, ptr, compare, value, sem, scope):
    lanes = guard("atomic", ptr, _everywhere(ptr), None, sem, scope)
    takes = lanes.all() and _is_free(ptr, value, compare.data)
    if takes and stores and running.refuses(int(ptr.data.flat[0])):
        return _with_ticket(Handle(value.data.copy(), compare.dtype.scalar), False)
    if stores and lanes.all():
        old = interpreter._interpreter.atomic_cas(ptr.data, compare.data, value.data, self.ir_sem_to_interpreter_sem[sem])
    else:
        old = _old_value(ptr, lanes, value.data)
    return _with_ticket(Handle(old, compare.dtype.scalar), takes)


def _is_free(ptr, value, free: np.ndarray) -> bool:
    """Whether this operation takes a lock: it finds one address free, and leaves it so that another program would not."""
    if ptr.data.size != 1 or (value.data == free).all():
        return False
    return bool((_old_value(ptr, np.ones(ptr.data.shape, bool), value.data) == free).all())


def atomic_load(self, ptr, mask, sem, scope):
    lanes = guard("atomic", ptr, mask, None, sem, scope)
    element = ptr.get_element_ty()
    dtype = np_dtype(element)
    filler = undefined(ptr.data.shape, dtype, element == tl.bfloat16)
    return _with_ticket(Handle(interpreter._interpreter.load(ptr.data, lanes, filler, dtype), element), False)


def atomic_store(self, ptr, value, mask, sem, scope):
    lanes = guard("atomic", ptr, mask, value.data, sem, scope)
    if stores:
        interpreter._interpreter.store(ptr.data, value.data, lanes)


def atomic_poll(self, ptr, expected, timeout_ns, sem, scope):
    lanes = guard("atomic", ptr, _everywhere(ptr), None, sem, scope)
    matched = _old_value(ptr, lanes, expected.data) == expected.data
    if timeout_ns is None and not matched.all():
        raise RuntimeError("waits for a program that has not run: programs may run in any order")
    return _with_ticket(Handle(matched, tl.int1), bool(matched.all()))


def _with_ticket(handle, locks: bool):
    """Mark a value as coming from the atomic operation that was seen last."""
    if running is not None and running.latest is not None:
        running.latest.locks = locks
        handle.attr = {TICKETS: (running.latest,)}
    return handle


def decide(handle, outcome: bool) -> bool:
    """Note that a program went on by a value that hangs on atomic operations."""
    for access in handle.attr.get(TICKETS, ()):
        access.outcomes.add(outcome)
    await_others(handle)
    return outcome


def await_others(handle) -> None:
    """Note that all threads of a program use what one of them has just written, and none waited for it."""
    if running is not None:
        running.findings["unsynchronised"] += any(access.kind == "load" for access in handle.attr.get(TICKETS, ()))


def spreading(splat):
    """A scalar that becomes a block goes to all threads; one that stays a scalar may be right in the thread that stores it."""

    def on_handle(self, *args):
        for handle in args:
            if isinstance(handle, Handle) and handle.data.size == 1:
                await_others(handle)
        return splat(self, *args)

    return on_handle


def passing_tickets(operation):
    """An operation whose result depends on the atomic operations that its operands depend on."""

    def on_handles(self, *args):
        result = operation(self, *args)
        if any(isinstance(a, Handle) and TICKETS in a.attr for a in args):
            tickets = tuple(dict.fromkeys(t for a in args if isinstance(a, Handle) for t in a.attr.get(TICKETS, ())))
            result.attr = {**result.attr, TICKETS: tickets}
        return result

    return on_handles


def waiting(operation):
    """The barrier. Reductions and products may let threads wait for each other, too, and promise nothing about memory."""

    def with_epoch(self, *args):
        if running is not None:
            running.epoch += 1
        return operation(self, *args)

    return with_epoch
