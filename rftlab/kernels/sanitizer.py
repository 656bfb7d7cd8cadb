"""The faults that Triton's interpreter hides and a GPU shows: every address of every launch is looked at here.

- A lane that is switched on and points outside the tensors of the launch. It is counted, and neither read nor written: the
  interpreter would touch whatever lies there, this grader's own memory included.
- A lane that is switched off and reads something although the load names no `other`: undefined on a GPU, 0 in the interpreter,
  here nan (a large number for integers).
- Programs that touch the same element, at least one of them writing, with nothing that orders them: a race. Programs run one
  after another here, in a shuffled order (`interpreter`), so an answer can be right by luck; the accesses tell all the same.
  Equal values written twice are no race. Atomic operations of two programs on one address order what comes before the first
  and after the second, if they hold the second program back: a lock that it tries again when it is refused once, or a
  counter by which it goes on otherwise than the first ("the last one sums up").
"""

import functools
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

MANY = -2  # several programs, in arrays of program numbers; -1 is none


@dataclass(eq=False)
class Access:
    """One load, store or atomic operation of one program on one tensor's memory: byte offsets of the lanes that are on."""

    time: int
    program: int
    kind: str  # "load", "store" or "atomic"
    offsets: np.ndarray
    values: np.ndarray | None = None  # what a store, or an atomic exchange, writes
    orders: bool = False  # an atomic that acquires and releases
    private: bool = False  # an atomic of the scope "cta": between programs it is none
    epoch: int = 0  # grows when the threads of a program wait for each other
    loop: int = 0  # which pipelined loop it is in: its loads run ahead of its stores
    lanes: np.ndarray | None = None  # positions in the block, with the number of the block's shape in the upper half: threads hold other lanes of another
    locks: bool = False  # a compare-and-swap or an exchange that found its address free and took it
    outcomes: set[bool] = field(default_factory=set)  # how conditions and masks that depend on its value came out


@functools.cache
def undefined(shape: tuple, dtype: np.dtype, bfloat16: bool = False) -> np.ndarray:
    """What memory holds that nobody has written: by turns nan and numbers large enough to be noticed, of both signs.

    Not nan alone: `where(x == x, x, 0)` and `tl.max` would let it vanish. Nobody may write into the result.
    """
    if bfloat16:
        values = np.array([0x7FC0, 0x4640, 0x7FC0, 0xC640], np.uint16)  # nan, 12288, nan, -12288
    elif dtype.kind == "f":
        values = np.array([np.nan, 12345, np.nan, -12345], dtype)
    elif dtype.kind == "b":
        values = np.array([True, True, False, True])
    else:
        large = np.iinfo(dtype).max // 3
        values = np.array([large, large - 1, -large if dtype.kind == "i" else large, large // 2], dtype)
    found = np.resize(values, shape)
    found.flags.writeable = False
    return found


class Sanitizer:
    """Watches one launch. `spans` are the (first, past the last) addresses that its programs may touch."""

    def __init__(self, spans):
        self.spans = sorted(set(spans))
        self.program = 0
        self.epoch = 0
        self.loop = self.loops = 0
        self.shapes: dict[tuple, int] = {}  # of blocks -> number
        self.single: dict[int, tuple] = {}  # address -> (program, epoch) of what one thread alone wrote there last
        self.latest: Access | None = None  # the last atomic
        self.accesses: dict[int, list[Access]] = {}  # span -> accesses in time
        self.time = 0
        self.taken = Counter()  # address -> how often it was taken as a lock
        self.findings = Counter()

    def refuses(self, address: int) -> bool:
        """Whether to pretend, the second time that a lock is free, that another program holds it: a real lock is tried again."""
        self.taken[address] += 1
        return self.taken[address] == 2

    def see(self, kind: str, addresses: np.ndarray, mask: np.ndarray, width: int, values=None, orders=False, private=False) -> np.ndarray:
        """Note one access; returns the mask without the lanes that point outside."""
        on = addresses[mask].astype(np.int64)
        if on.size == 0:
            return mask
        low, high, self.time = int(on.min()), int(on.max()) + width, self.time + 1
        values = None if values is None else np.broadcast_to(values, addresses.shape)[mask]
        lanes = np.flatnonzero(mask) + (self.shapes.setdefault(addresses.shape, len(self.shapes)) << 32)
        rest = {"orders": orders, "private": private, "epoch": self.epoch, "loop": self.loop}
        if addresses.size == 1 and kind != "load":
            self.single[low] = (self.program, self.epoch)
        for number, (first, end) in enumerate(self.spans):
            if first <= low and high <= end:  # the usual case: all lanes in one tensor
                self._note(number, Access(self.time, self.program, kind, on - first, values, lanes=lanes, **rest))
                return mask
        inside = np.zeros(on.shape, bool)
        for number, (first, end) in enumerate(self.spans):
            here = (on >= first) & (on + width <= end)
            if here.any():
                inside |= here
                part = None if values is None else values[here]
                self._note(number, Access(self.time, self.program, kind, on[here] - first, part, lanes=lanes[here], **rest))
        self.findings[f"{kind}s outside"] += int((~inside).sum())
        mask = mask.copy()
        mask[mask] = inside
        return mask

    def _note(self, span: int, access: Access) -> None:
        self.accesses.setdefault(span, []).append(access)
        if access.kind == "atomic":
            self.latest = access

    def close(self) -> Counter:
        """The findings of the whole launch: kind -> number of lanes or elements."""
        for span, accesses in self.accesses.items():
            if len(accesses) > 1 or accesses[0].values is not None:
                self._races(accesses, self.spans[span])
        return self.findings

    def _races(self, accesses: list[Access], span) -> None:
        kinds = {access.kind for access in accesses}
        if kinds == {"load"} or kinds == {"store"} and not _repeats(accesses):
            return
        self.findings["races"] += sum(_disagrees(access) for access in accesses if access.values is not None)
        if kinds == {"atomic"} and not any(access.private for access in accesses):
            return
        if len({access.program for access in accesses}) > 1:
            size = 1 + max(int(access.offsets.max()) for access in accesses)
            clash = _clashes(accesses, size)
            if clash.any() and any(a.orders for s in self.accesses.values() for a in s):
                clash = self._unordered(accesses, clash)
            self.findings["races"] += int(clash.sum())
        self.findings["unsynchronised"] += _unsynchronised(accesses) if "load" in kinds else 0
        writing = [access for access in accesses if access.kind != "load"]
        self.findings["overwritten"] += _overwritten(writing) if "store" in kinds and _repeats(writing) else 0

    def enter_loop(self, pipelined: bool) -> int:
        """Begin a loop; returns the number of the loop around, to go back to."""
        around, self.loops = self.loop, self.loops + pipelined
        self.loop = self.loops if pipelined else 0
        return around

    def just_written(self, address: int) -> bool:
        """Whether one thread of this program wrote there, and the others have not waited for it."""
        return self.single.get(address) == (self.program, self.epoch)

    def _unordered(self, accesses: list[Access], clash: np.ndarray) -> np.ndarray:
        """The clashing elements for which some pair of accesses is ordered by no atomic operation."""
        marks: dict[tuple, list[Access]] = {}  # (span, offset) -> the ordering atomics on it
        for span, seen in self.accesses.items():
            for access in seen:
                for offset in access.offsets.tolist() if access.orders else ():
                    marks.setdefault((span, offset), []).append(access)
        left = np.zeros_like(clash)
        touching = [access for access in accesses if clash[access.offsets].any()]
        for i, early in enumerate(touching):
            for late in touching[i + 1 :]:
                if early.program == late.program or {early.kind, late.kind} <= {"load", "atomic"} and early.kind == late.kind:
                    continue
                if not any(_hands_over(marked, early, late) for marked in marks.values()):
                    both = np.intersect1d(early.offsets, late.offsets)
                    left[both] = clash[both]
        return left


def _hands_over(marked: list[Access], early: Access, late: Access) -> bool:
    """An atomic of the early program after its access, and on the same address one that holds the late program back until then.

    That is a lock which the late program took, or a value by which it goes on otherwise than the early one does.
    """
    released = [a.time for a in marked if a.program == early.program and a.time >= early.time]
    other = set().union(*(a.outcomes for a in marked if a.program == early.program))
    taken = [a.time for a in marked if a.program == late.program and a.time <= late.time and a.outcomes and (a.locks or a.outcomes != other)]
    return bool(released and taken) and min(released) < max(taken)


def _repeats(accesses: list[Access]) -> bool:
    offsets = accesses[0].offsets if len(accesses) == 1 else np.concatenate([access.offsets for access in accesses])
    ordered = np.sort(offsets)
    return bool((ordered[1:] == ordered[:-1]).any())


def _clashes(accesses: list[Access], size: int) -> np.ndarray:
    """Per byte offset: whether two programs touch the element there in a way whose order matters."""
    writer, reader, adder = (np.full(size, -1) for _ in range(3))
    clash = np.zeros(size, bool)
    last: np.ndarray | None = None
    for access in accesses:
        at = access.offsets
        if access.kind == "store":
            if last is None:
                last = np.zeros(size, access.values.dtype)
            foreign = (writer[at] != -1) & (writer[at] != access.program)
            clash[at] |= foreign & ~_same(last[at], access.values)
            last[at] = access.values
        for who in (writer, reader) if access.private else ({"store": writer, "load": reader, "atomic": adder}[access.kind],):
            who[at] = np.where((who[at] == -1) | (who[at] == access.program), access.program, MANY)
    touched = writer != -1
    for other in (reader, adder):  # someone else, or more than one, reads or adds where one writes
        clash |= touched & (other != -1) & ((other != writer) | (other == MANY))
    clash |= (adder != -1) & (reader != -1) & ((reader != adder) | (adder == MANY))
    return clash


def _disagrees(access: Access) -> int:
    """Lanes of one store that write different values to one element."""
    order = np.argsort(access.offsets, kind="stable")
    at, values = access.offsets[order], access.values[order]
    return int(((at[1:] == at[:-1]) & ~_same(values[1:], values[:-1])).sum())


def _unsynchronised(accesses: list[Access]) -> int:
    """Elements that a program writes in one lane and loads in another, with nothing between that makes its threads wait.

    And what it loads and wrote before in the same pipelined loop, in whatever lane. To load first and write later is safe
    in a block of another shape: what is written comes from what was loaded, and on its way from thread to thread it waits.
    """
    size = 1 + max(int(access.offsets.max()) for access in accesses)
    marks = {loads: [np.full(size, -1) for _ in range(3)] for loads in (True, False)}  # lane, time and loop of the last one
    found = 0
    for access in accesses:
        loads, at, now = access.kind == "load", access.offsets, access.program * (1 << 20) + access.epoch
        lane, stamp, loop = marks[not loads]
        moved = lane[at] != access.lanes if loads else (lane[at] ^ access.lanes) & 0xFFFFFFFF != 0
        ahead = (loop[at] == access.loop) if loads and access.loop else False
        found += int(((stamp[at] == now) & (moved | ahead)).sum())
        lane, stamp, loop = marks[loads]
        lane[at] = np.where((stamp[at] == now) & (lane[at] != access.lanes), MANY, access.lanes)
        stamp[at], loop[at] = now, access.loop
    return found


def _overwritten(writing: list[Access]) -> int:
    """Elements that a program stores in two lanes, with other values, or stores in one and changes by an atomic in another, with
    nothing between that makes its threads wait. The same place in blocks of two shapes counts as one lane: it may be one thread."""
    size = 1 + max(int(access.offsets.max()) for access in writing)
    marks = {kind: [np.full(size, -1) for _ in range(2)] for kind in ("store", "atomic")}  # lane and time of the last one
    last = np.zeros(size, next(access.values.dtype for access in writing if access.kind == "store"))
    found = 0
    for access in writing:
        at, now = access.offsets, access.program * (1 << 20) + access.epoch
        for kind in ("store", "atomic") if access.kind == "store" else ("store",):  # atomics may follow one another
            lane, stamp = marks[kind]
            moved = (stamp[at] == now) & ((lane[at] ^ access.lanes) & 0xFFFFFFFF != 0)
            found += int((moved & ~_same(last[at], access.values)).sum() if kind == access.kind else moved.sum())
        lane, stamp = marks[access.kind]
        lane[at], stamp[at] = access.lanes, now
        if access.kind == "store":
            last[at] = access.values
    return found


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a == b) | ((a != a) & (b != b))
