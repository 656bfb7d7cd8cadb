"""A kernel task: a PyTorch function, the shapes it is tested with, and what a model is told about it.

A completion earns its reward by computing what `reference` computes, on inputs that it sees for the first time. So a
task must be testable: the checks at construction (`task_checks`) refuse what no grader could grade, and
`rftlab.kernels.lint` says how hard a task is to fool.
"""

import functools
import hashlib
import importlib.util
import inspect
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rftlab.kernels import task_checks
from rftlab.kernels.compare import is_lost, tolerance
from rftlab.kernels.inputs import KINDS, Maker, nudge, spread_out

SPLITS = ("train", "heldout")
PATIENCE = 20  # draws until the reference's answer is finite
NUDGES = 3  # repetitions that measure the reference's own rounding noise
FURTHER = range(2, 20)  # rounding steps of further nudges, where answers have lost their digits

PROMPT = """\
Write this PyTorch function as a Triton kernel.

```python
{source}
```

{inputs}
Answer with one ```python block: a complete program that imports torch, triton and triton.language as tl, defines one or
more @triton.jit kernels, and defines `{entry}({parameters})`, which launches them and returns {result}.
All arithmetic happens inside kernels. The function around them may only allocate (torch.empty_like, torch.empty,
torch.zeros ...), look at shapes, strides and dtypes, make views, make inputs contiguous, and launch.
Block sizes are tl.constexpr; guard every load and store that can pass the end of a tensor with a mask.
No other imports, no classes, no try, no eval, no inline assembly. Do not ask for CUDA: tensors may be on the CPU."""


@dataclass(frozen=True)
class Case:
    """One test case: what the completion gets, and what only the grader may know."""

    inputs: list  # tensors on the CPU, some of them not contiguous, and plain numbers
    expected: tuple[torch.Tensor, ...]  # contiguous, finite
    tolerances: tuple[torch.Tensor, ...]  # float64, one number per element of `expected`; see `compare`
    is_tuple: bool  # the reference returned several tensors: the completion must too, in this order


@dataclass(frozen=True, eq=False)
class KernelTask:
    """A PyTorch function on CPU tensors for which a Triton kernel is wanted, with its test cases.

    `shapes` has one inner list per test case, in it one tuple per parameter of `reference` (or a plain number for a
    parameter that is no tensor): `[[(300,), (300,)], [(7, 33), (7, 33)]]`. `entry` is the function that a completion
    must define (default: the reference's name), `source` the PyTorch text in the prompt (default: its source code),
    `dtype` that of all tensors made by "normal" and "positive".

    Raises ValueError when the task cannot be graded: see `task_checks` for the list.
    """

    name: str
    reference: Callable
    shapes: list
    entry: str | None = None
    source: str = ""
    dtype: str = "float32"
    family: str = ""  # element-wise, activation, reduction, matrix, indexing; for reports
    kernel: str = ""  # a completion's program that solves the task, if one is known
    inputs: dict[str, str | Maker] = field(default_factory=dict)  # parameter -> one of `inputs.KINDS`, or a maker
    scales: tuple[float, ...] | None = None  # per case; None: see `task_checks.choose_scales`
    strided: tuple[int, ...] = ()  # the cases whose tensors are not contiguous, each in another layout than its neighbour
    parameters: tuple[str, ...] = field(init=False)

    def __post_init__(self):
        settle = functools.partial(object.__setattr__, self)
        settle("dtype", task_checks.dtype_name(self.dtype))
        settle("entry", task_checks.entry_name(self.entry, self.reference))
        settle("shapes", task_checks.clean_shapes(self.shapes, self.name))
        settle("parameters", task_checks.parameter_names(self.reference, self.shapes, self.name))
        settle("source", self.source or _source(self.reference))
        task_checks.check_options(self)
        task_checks.check_reference(self)

    def make_case(self, index: int, seed: int) -> Case:
        """Test case `index` with inputs drawn from `seed`, the same ones for the same task, index and seed.

        Raises IndexError when there is no such case, ValueError when no draw gives a finite answer.
        """
        if not 0 <= index < len(self.shapes):
            raise IndexError(f"task {self.name!r} has cases 0 to {len(self.shapes) - 1}, not {index}")
        generator = torch.Generator().manual_seed(_number(f"{self.name} {index} {seed}"))
        for _ in range(PATIENCE):
            inputs = self.draw(index, generator)
            expected, is_tuple = task_checks.call(self, inputs)
            if all(map(task_checks.is_finite, expected)):
                break
        else:
            raise ValueError(
                f"task {self.name!r}: the reference gave infinities or nan in {PATIENCE} draws of case {index} "
                f"{self.shapes[index]}; choose inputs= (for example 'positive') or scales= that suit it"
            )
        noise = self._moved(inputs, expected, generator, [1] * NUDGES)
        if any(is_lost(n, e).any() for n, e in zip(noise, expected)):  # the sine of exp(15) may by luck come back to where it was
            further = self._moved(inputs, expected, generator, FURTHER)
            noise = [torch.where(is_lost(f, e), torch.maximum(n, f), n) for n, f, e in zip(noise, further, expected)]
        return Case(inputs, expected, tuple(map(tolerance, expected, noise)), is_tuple)

    def _moved(self, inputs: list, expected, generator: torch.Generator, steps: Iterable[int]) -> list[torch.Tensor]:
        """How far each answer moves at most when the inputs move by so many rounding steps each time."""
        most = [torch.zeros(e.shape, dtype=torch.float64) for e in expected]
        for count in steps:
            moved, _ = task_checks.call(self, [nudge(i, generator, count) if torch.is_tensor(i) else i for i in inputs])
            most = [torch.maximum(n, _distance(m, e)) for n, m, e in zip(most, moved, expected)]
        return most

    def draw(self, index: int, generator: torch.Generator, scale: float | None = None) -> list:
        """Inputs of case `index`, taken from a generator; `scale` replaces the case's own."""
        shapes, made = self.shapes[index], []
        for position, shape in enumerate(shapes):
            if not isinstance(shape, tuple):
                made.append(shape)
                continue
            maker = self.inputs.get(self.parameters[position], task_checks.default_kind(self.dtype))
            maker = KINDS[maker] if isinstance(maker, str) else maker
            tensor = maker(generator, shapes, position, self.scales[index] if scale is None else scale)
            if tensor.is_floating_point():
                dtype = getattr(torch, self.dtype)
                tensor = tensor.to(dtype) if dtype.is_floating_point else tensor.long().to(dtype)
            made.append(spread_out(tensor, gaps=position % 2 == 0) if index in self.strided else tensor)
        return made

    def prompt(self) -> str:
        """What a model is told: the function, its inputs, the form of the answer and the rules.

        Raises ValueError when the source text is not known.
        """
        if not self.source:
            raise ValueError(f"task {self.name!r}: the reference's source text cannot be read; give it as source=...")
        cases = [self.make_case(index, seed=0) for index in range(len(self.shapes))]
        lines = [f"{name}: {_describe(values)}" for name, *values in zip(self.parameters, *(case.inputs for case in cases))]
        if self.strided:
            lines.append("Tensors need not be contiguous.")
        return PROMPT.format(
            source=self.source.strip(),
            inputs="\n".join(lines),
            entry=self.entry,
            parameters=", ".join(self.parameters),
            result=" and ".join(map(_describe, zip(*(case.expected for case in cases)))),
        )


def folder() -> Path:
    """data/kernels of this clone, or the copy inside an installed wheel."""
    here = Path(__file__).resolve().parents[1]
    data = here.parent / "data"
    return (data if data.is_dir() else here / "_data") / "kernels"


@functools.cache
def _load(split: str) -> tuple[KernelTask, ...]:
    return tuple(_read(path) for path in sorted((folder() / split).glob("*.py")))


def load_kernel_tasks(split: str) -> list[KernelTask]:
    """The tasks of a split: "train" has 13, "heldout" the others. Raises ValueError on another name."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the splits are: {', '.join(SPLITS)}")
    return list(_load(split))


def _read(path: Path) -> KernelTask:
    """A task file defines a function of its own name, `FAMILY`, `SHAPES` and further options of KernelTask in capitals."""
    spec = importlib.util.spec_from_file_location(f"rftlab_kernel_task_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = {name.lower(): value for name, value in vars(module).items() if name.isupper()}
    kernel = (folder() / "triton" / path.name).read_text(encoding="utf-8")
    return KernelTask(path.stem, getattr(module, path.stem), options.pop("shapes"), kernel=kernel, **options)


def _source(reference: Callable) -> str:
    try:
        return textwrap.dedent(inspect.getsource(reference))
    except (OSError, TypeError):  # typed into a bare interpreter, or written in C
        return ""


def _distance(moved: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """|moved - expected| in float64; 0 where the nudge took the answer out of range."""
    return (moved.double() - expected.double()).abs().nan_to_num(0.0, 0.0)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


def _describe(values) -> str:
    """One parameter or result over all cases: "a 1-D or 2-D float32 tensor"."""
    if not torch.is_tensor(values[0]):
        return f"a Python {type(values[0]).__name__}"
    ranks = " or ".join(f"{rank}-D" for rank in sorted({value.dim() for value in values}))
    return f"a {ranks} {str(values[0].dtype).removeprefix('torch.')} tensor"
