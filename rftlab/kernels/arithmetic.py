"""What a kernel's arithmetic does in the interpreter: bfloat16 computes as on a GPU, and what a GPU leaves undefined is garbage.

Triton's interpreter adds bfloat16 values as if their bits were integers and cuts instead of rounding; here each operation is
done in float32 and rounded once. And numpy has an answer where a GPU has none: a division of integers by zero, a shift by more
bits than there are, a float that does not fit the integer it becomes, an index of `tl.gather` outside the block. Lanes that do
so hold garbage here, which is harmless where nobody looks at them. What may be reordered (`can_reorder=True`) is.
"""

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

from rftlab.kernels.sanitizer import undefined

Builder, Handle = interpreter.InterpreterBuilder, interpreter.TensorHandle


def install() -> None:
    """Patch the interpreter's builder."""
    interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)  # integers wrap, as on a GPU
    interpreter._get_np_dtype = np_dtype
    for name in ("create_idiv", "create_srem", "create_urem"):
        setattr(Builder, name, undefined_where(getattr(Builder, name), lambda a, b: b == 0))
    for name in ("create_shl", "create_lshr", "create_ashr"):
        setattr(Builder, name, undefined_where(getattr(Builder, name), lambda a, b: b.astype(np.uint64) >= 8 * a.dtype.itemsize))
    Builder.create_gather, Builder.create_cat = gather, concatenate
    Builder.create_reshape = reordered(Builder.create_reshape)
    for name in ("binary_op", "unary_op", "ternary_op", "create_dot", "create_fma", "create_fabs", "create_idiv", "create_rsqrt", "create_erf"):
        setattr(Builder, name, in_float32(getattr(Builder, name)))
    Builder.cast_impl = cast
    Builder.create_fp_to_fp = cast
    Builder.get_bf16 = lambda self, value: narrow(np.array([value], np.float32))


_NUMPY = {
    name: np.dtype(data) for data, names in {
        "bool": "int1", "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64", "uint8": "uint8 fp8e5 fp8e5b16 fp8e4nv fp8e4b8 fp8e4b15",
        "uint16": "uint16 bf16", "uint32": "uint32", "uint64": "uint64", "float16": "fp16", "float32": "fp32", "float64": "fp64"}.items()
    for name in names.split()
}  # fmt: skip


def np_dtype(kind) -> np.dtype:
    """How the interpreter stores a Triton type: Triton's own table, built once."""
    kind = kind.scalar
    return np.dtype(np.uint64) if isinstance(kind, tl.pointer_type) else _NUMPY[kind.name]


def widen(handle):
    """A bfloat16 handle as float32; any other as it is."""
    if isinstance(handle, Handle) and handle.dtype.scalar == tl.bfloat16:
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
        kept = any(isinstance(a, Handle) and a.dtype.scalar == tl.float32 for a in args)  # such as a product's accumulator
        return narrow(result.data) if result.data.dtype == np.float32 and not kept else result

    return on_handles


def cast(self, value, to, rounding=interpreter._ir.ROUNDING_MODE.RTNE):
    """Numeric conversion between any two scalar types."""
    wide, target = widen(value), to.scalar
    cuts = rounding == interpreter._ir.ROUNDING_MODE.RTZ
    if target == tl.bfloat16:
        values = wide.data.astype(np.float32)
        return narrow((values.view(np.uint32) & 0xFFFF0000).view(np.float32) if cuts else values)
    if target.is_fp8() or value.dtype.scalar.is_fp8():
        data = interpreter._convert_float(wide.data, wide.dtype.scalar, target, rounding)
        return Handle(data.view(np_dtype(target)), target)
    result = Handle(wide.data.astype(np_dtype(target)), target)
    if cuts:
        further = np.abs(result.data).astype(wide.data.dtype) > np.abs(wide.data)
        result.data = np.where(further, np.nextafter(result.data, result.data.dtype.type(0)), result.data)
    if wide.data.dtype.kind == "f" and result.data.dtype.kind in "iu":
        low, high = (float(bound) for bound in (np.iinfo(result.data.dtype).min, np.iinfo(result.data.dtype).max))
        bad = ~((np.trunc(wide.data) >= low) & (wide.data < high + 1))
        return spoilt(result, bad) if bad.any() else result
    return result

def undefined_where(operation, nonsense):
    """An operation on two integers whose result is undefined in the lanes where `nonsense(left, right)` holds."""

    def on_handles(self, left, right):
        result = operation(self, left, right)
        bad = nonsense(left.data, right.data)
        return spoilt(result, bad) if bad.any() else result

    return on_handles


def spoilt(handle, bad: np.ndarray):
    """The handle with garbage in the bad lanes."""
    data = np.where(bad, undefined(handle.data.shape, handle.data.dtype, handle.dtype.scalar == tl.bfloat16), handle.data)
    return Handle(data, handle.dtype.scalar, handle.attr)


def gather(self, source, indices, axis):
    bad = (indices.data < 0) | (indices.data >= source.data.shape[axis])
    result = Handle(np.take_along_axis(source.data, np.where(bad, 0, indices.data), axis=axis), source.dtype.scalar)
    return spoilt(result, bad) if bad.any() else result


def concatenate(self, left, right):
    """Only for can_reorder=True: the compiler builds the other kind of `tl.cat` from joins."""
    return Handle(np.concatenate([right.data, left.data]), left.dtype.scalar)


def reordered(reshape):
    def on_handle(self, arg, shape, allow_reorder):
        result = reshape(self, arg, shape, allow_reorder)
        return Handle(np.roll(result.data, 1), result.dtype.scalar) if allow_reorder else result

    return on_handle
