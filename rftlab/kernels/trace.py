"""Watch which program of a Triton kernel touches which memory, while the interpreter runs it.

    with trace.watch(x=x, out=out) as seen:
        kernel[(3,)](x, out, 10, BLOCK=4)
    print(seen)                    # program 0   load x[0:4]   store out[0:4] ...
    pictures.lanes(seen)           # the same as a picture (rftlab.kernels.pictures)

A kernel knows addresses only, so what is watched is given by name. For reading and drawing small examples, on one's own
kernels: whoever wants to hide from it, can. The grader has a sanitizer of its own.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class Access:
    """One load, store or atomic operation of one program."""
    program: int             # number of the program; with a grid of several dimensions, counted row by row
    kind: str                # "load", "store" or "atomic"
    tensor: str              # name of the tensor that most of its addresses lie in, or lie next to
    cells: np.ndarray        # element offsets from the tensor's first element, of the lanes that are switched on
    off: np.ndarray          # the same for the lanes that the mask switches off


@dataclass
class Trace:
    """What one or more launches touched, in order."""
    shapes: dict[str, tuple[int, ...]]
    grid: tuple[int, ...] = ()
    accesses: list[Access] = field(default_factory=list)

    def outside(self) -> int:
        """Number of lanes that were switched on and lay outside their tensor."""
        return sum(int(((a.cells < 0) | (a.cells >= self.size(a.tensor))).sum()) for a in self.accesses)

    def size(self, tensor: str) -> int:
        return int(np.prod(self.shapes[tensor]))

    def toucher(self, tensor: str, kind: str) -> np.ndarray:
        """For each element of a tensor the program that touched it last; -1 for none, -2 where several programs did."""
        who = np.full(self.size(tensor), -1)
        for access in self.accesses:
            if (access.tensor, access.kind) == (tensor, kind):
                inside = access.cells[(access.cells >= 0) & (access.cells < who.size)]
                who[inside] = np.where((who[inside] == -1) | (who[inside] == access.program), access.program, -2)
        return who.reshape(self.shapes[tensor])

    def __str__(self) -> str:
        """One line a program: what it loads and stores, in order, and how many lanes of it are masked off."""
        lines: dict[int, list[str]] = {}
        for access in self.accesses:
            masked = f" ({access.off.size} masked off)" if access.off.size else ""
            where = region(access.cells, self.shapes[access.tensor]) if access.cells.size else "[nothing]"
            lines.setdefault(access.program, []).append(f"{access.kind} {access.tensor}{where}{masked}")
        return "\n".join(f"program {self.label(number)}   " + "   ".join(parts) for number, parts in lines.items())

    def label(self, program: int) -> str:
        """A program's coordinates in the grid, "3" or "(1, 0)"."""
        if len(self.grid) <= 1:
            return str(program)
        return str(tuple(int(i) for i in np.unravel_index(program, self.grid)))


def region(cells: np.ndarray, shape: tuple[int, ...]) -> str:
    """Offsets as slices, "[4:8]" or "[0:2, 3:6]"; offsets that form no box, or lie outside, as their number."""
    inside = (cells >= 0) & (cells < np.prod(shape))
    outside = f", {int((~inside).sum())} outside" if not inside.all() else ""
    if not inside.any():
        return f"[{cells.size} outside]"
    axes = [np.unique(axis) for axis in np.unravel_index(np.unique(cells[inside]), shape)]
    if np.prod([axis.size for axis in axes]) != np.unique(cells[inside]).size:
        return f"[{np.unique(cells[inside]).size} elements{outside}]"
    return "[" + ", ".join(_slice(axis) for axis in axes) + outside + "]"


def _slice(indices: np.ndarray) -> str:
    first, last = int(indices[0]), int(indices[-1])
    if indices.size == 1:
        return str(first)
    step = (last - first) // (indices.size - 1)
    even = (np.diff(indices) == step).all()
    return f"{first}:{last + 1}" + (f":{step}" if step > 1 else "") if even else ",".join(map(str, indices.tolist()))


@contextmanager
def watch(*, undefined: float | None = None, **tensors: torch.Tensor) -> Iterator[Trace]:
    """Record what interpreted kernels do to the named tensors inside the block.

    undefined: what lanes that are masked off read when the load names no `other`. The interpreter gives 0 and a GPU
    gives anything; float("nan") makes kernels fail that rely on it. Raises RuntimeError when Triton would compile
    instead of interpret, ValueError for no tensor, or one that is not contiguous or not on the CPU.
    """
    import triton
    from triton.runtime.interpreter import InterpreterBuilder as Builder

    if not triton.knobs.runtime.interpret:
        raise RuntimeError("Triton does not interpret here: set os.environ['TRITON_INTERPRET'] = '1' before it is imported")
    if not tensors:
        raise ValueError("nothing to watch: name the tensors, as in watch(x=x, out=out)")
    for name, tensor in tensors.items():
        if not tensor.is_contiguous() or tensor.device.type != "cpu":
            raise ValueError(f"{name} is not a contiguous CPU tensor: watch the tensor that it is a view of, or a copy")
    seen = Trace({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    originals = {name: getattr(Builder, name) for name in ("create_masked_load", "create_masked_store", "create_atomic_rmw")}

    def load(self, ptrs, mask, other, *rest):
        _note(seen, self, tensors, "load", ptrs, mask)
        if other is None and undefined is not None:
            other = _filled(ptrs, undefined)
        return originals["create_masked_load"](self, ptrs, mask, other, *rest)

    def store(self, ptrs, value, mask, *rest):
        _note(seen, self, tensors, "store", ptrs, mask)
        return originals["create_masked_store"](self, ptrs, value, mask, *rest)

    def atomic(self, operation, ptrs, value, mask, *rest):
        _note(seen, self, tensors, "atomic", ptrs, mask)
        return originals["create_atomic_rmw"](self, operation, ptrs, value, mask, *rest)

    Builder.create_masked_load, Builder.create_masked_store, Builder.create_atomic_rmw = load, store, atomic
    try:
        yield seen
    finally:
        for name, original in originals.items():
            setattr(Builder, name, original)


def _note(seen: Trace, builder, tensors: dict, kind: str, ptrs, mask) -> None:
    """Add one access to the trace: addresses become element offsets from the tensor that they belong to."""
    addresses, on = ptrs.data.ravel().astype(np.int64), np.broadcast_to(mask.data, ptrs.data.shape).ravel().astype(bool)
    starts = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    lengths = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}

    def distance(name):  # first how many lanes lie inside, then how far the nearest is
        inside = (addresses >= starts[name]) & (addresses < starts[name] + lengths[name])
        return (-int(inside.sum()), int(np.abs(addresses - starts[name]).min()))

    name = min(tensors, key=distance)
    offsets = (addresses - starts[name]) // tensors[name].element_size()
    dimensions = tuple(builder.grid_dim)
    while len(dimensions) > 1 and dimensions[-1] == 1:
        dimensions = dimensions[:-1]
    seen.grid = dimensions
    program = int(np.ravel_multi_index(builder.grid_idx[:len(dimensions)], dimensions))
    seen.accesses.append(Access(program, kind, name, offsets[on], offsets[~on]))


def _filled(ptrs, value: float):
    """A block of `value` for the lanes of a load; None (zeros, as usual) for integers."""
    from triton.runtime.interpreter import TensorHandle, _get_np_dtype

    dtype = _get_np_dtype(ptrs.get_element_ty())
    if not np.issubdtype(dtype, np.floating):
        return None
    return TensorHandle(np.full(ptrs.data.shape, value, dtype=dtype), ptrs.get_element_ty())
