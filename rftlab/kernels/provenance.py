"""Where did the values come from? Three kinds of evidence that the answer was made by Triton kernels.

- A log of the torch operations of the whole call, grids, hooks and kernel bodies included. Allowed: to allocate, to look at a
  tensor in another shape, to copy it as it is or make an input contiguous, to convert between float types. Everything else
  computes, and is the kernel's job.
- The launches of each test case (`interpreter`): at least one program must run.
- The ablation: with all stores of the kernels suppressed, the answer must not come out. Fresh tensors are filled with garbage, or
  memory that was freed a moment ago would still hold the answer.

Believable only behind the rules (`policy`), which leave a program no way to tamper with its own process.
"""

import ctypes
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rftlab.kernels.child import FILE
from rftlab.kernels.sanitizer import undefined

EMPTY = {f"aten.{name}" for name in "empty empty_like empty_strided new_empty new_empty_strided".split()}
ALLOCATE = EMPTY | {f"aten.{name}" for name in (
    "zeros zeros_like new_zeros ones ones_like new_ones "
    "full full_like new_full scalar_tensor").split()}
VIEW = {f"aten.{name}" for name in (
    "view _unsafe_view _reshape_alias alias detach as_strided t transpose permute unsqueeze squeeze expand slice select narrow unfold "
    "diagonal lift_fresh view_as unsafe_split split split_with_sizes").split()}
COPY = {"aten.clone", "aten._to_copy"}
FILL = {"aten.fill_", "aten.zero_"}


class TorchLog(TorchDispatchMode):
    """Collects what torch computed during a call: `found` is a list of (operation, line of the program, why)."""

    _should_skip_dynamo = classmethod(lambda cls: False)  # or each operation passes torch._dynamo, 70 MB in every fork

    def __init__(self):
        super().__init__()
        self.watching = False

    def watch(self, inputs) -> None:
        """Begin a call on these inputs; it lasts until `watching` is set to False."""
        self.watching = True
        tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
        self.geometry = {(value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride()) for value in tensors}
        self.inputs = {value.untyped_storage().data_ptr() for value in tensors}
        self.found: list[tuple[str, int, str]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if not self.watching:
            return result
        name = str(function).rsplit(".", 1)[0]
        if name in EMPTY:
            spoil(result)
        why = self.objection(name, function, args, result)
        if why:
            self.found.append((name.removeprefix("aten."), _line(), why))
        return result

    def objection(self, name, function, args, result) -> str:
        """Why this operation is not allowed, "" when it is."""
        if name in FILL:
            return "it copies a value" if any(isinstance(a, torch.Tensor) for a in args[1:]) else self._partial(args[0])
        if name in ALLOCATE or name in VIEW:
            return "it writes into another tensor" if function._schema.is_mutable else ""
        if name in COPY:
            return self._rearranged(args[0], result)
        return "it computes"

    def _partial(self, tensor) -> str:
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self.inputs or tensor.numel() * tensor.element_size() != storage.nbytes():
            return "it fills a part of a tensor, or an input"
        return ""

    def _rearranged(self, source, result) -> str:
        if source.dtype != result.dtype and not (source.is_floating_point() and result.is_floating_point()):
            return "it converts values to another kind of number"
        here = (source.untyped_storage().data_ptr(), source.storage_offset(), source.shape, source.stride())
        dense = torch.ops.aten.is_non_overlapping_and_dense.default(source)
        if here in self.geometry or (dense and source.stride() == result.stride()):
            return ""
        return "it rearranges data"


def spoil(fresh: torch.Tensor) -> None:
    """Fill memory that was just allocated with what `sanitizer.undefined` says, the same in each run."""
    storage = fresh.untyped_storage()
    size, dtype = storage.nbytes(), fresh.dtype
    if dtype not in _patterns or len(_patterns[dtype]) < size:
        half = dtype == torch.bfloat16
        raw = torch.empty(0, dtype=torch.int16 if half else dtype).numpy()
        _patterns[dtype] = undefined((max(4096, size),), raw.dtype.newbyteorder("="), half).tobytes()
    ctypes.memmove(storage.data_ptr(), _patterns[dtype], size)


_patterns: dict[torch.dtype, bytes] = {}


def _line() -> int:
    """The program's line that the running torch operation was called from, 0 if none."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename != FILE:
        frame = frame.f_back
    return frame.f_lineno if frame is not None else 0


def picks_or_rearranges(result: torch.Tensor, inputs, alone: bool) -> bool:
    """Whether a result is a view that selects, repeats or reorders what kernels stored, and so does their work.

    Fine are: memory from its start, dimensions from the widest stride to the narrowest, the last one dense (a padded buffer cut
    to size); the layout that `empty_like` gives for an input; and, where several results are returned, parts of one buffer.
    """
    sizes = [(stride, size) for stride, size in zip(result.stride(), result.shape) if size > 1]
    in_order = all(a[0] >= b[0] * b[1] for a, b in zip(sizes, sizes[1:])) and (not sizes or sizes[-1][0] == 1)
    if in_order and not (alone and result.storage_offset()):
        return False
    return not any(isinstance(v, torch.Tensor) and v.shape == result.shape and torch.empty_like(v).stride() == result.stride() for v in inputs)
