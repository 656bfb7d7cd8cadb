"""What a grader without defences pays, and whether it should have: for comparison and for exercises, never as a reward.

`examine` runs a completion of one's own in a process of its own and reports four things that a grader would like to know. It
locks nothing down: what a stranger or a model wrote belongs into `KernelGrader`.
"""
import json
import linecache
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from rftlab.kernels import compare

BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SEEDS = range(1, 6)  # of the fresh inputs; the naive grader always uses seed 0
TIMEOUT = 120  # seconds, for one completion


@dataclass(frozen=True)
class Examination:
    """What one completion does on one task."""
    paid: float             # by the naive grader: 1.0 when `allclose` says so, 0.6 when not, 0.5 after an error
    right: float            # share of fresh inputs, over all test cases, on which the result is really right
    launches: int           # kernel launches for the first test case
    right_without: bool     # the first case is right although no launch did anything: the kernel is decoration
    error: str              # the first error, "" when there was none


def naive_grade(task, space: dict) -> float:
    """The grader that everybody writes first: fixed inputs, one process, `allclose` with wide tolerances, the first case only."""
    case = task.make_case(0, seed=0)
    try:
        got = space[task.entry](*case.inputs)
        expected = task.reference(*case.inputs)
        return 1.0 if torch.allclose(got, expected, rtol=1e-2, atol=1e-2) else 0.6
    except Exception:
        return 0.5


def examine(completion: str, task) -> Examination:
    """Look at a completion for one of the tasks of `load_kernel_tasks`. Raises ValueError for another task.

    The inputs are drawn and the results compared here; the other process gets the inputs and hands back tensors.
    """
    from rftlab.kernels import load_kernel_tasks

    if task.name not in {one.name for split in ("train", "heldout") for one in load_kernel_tasks(split)}:
        raise ValueError(f"{task.name!r} is none of the course's kernel tasks, and only those can be sent to another process")
    cases = [task.make_case(index, seed) for seed in SEEDS for index in range(len(task.shapes))]
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder) / "request.pt"
        torch.save({"completion": completion, "task": task.name, "inputs": [case.inputs for case in cases]}, request)
        environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
                       "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        try:
            done = subprocess.run([sys.executable, "-m", "rftlab.kernels.naive", folder], env=environment, capture_output=True,
                                  timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return Examination(0.5, 0.0, 0, False, f"no end after {TIMEOUT} s")
        if not (Path(folder) / "answer.json").is_file():
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            return Examination(1.0 if done.returncode == 0 else 0.5, 0.0, 0, False, f"the process ended before its time {last}")
        answer = json.loads((Path(folder) / "answer.json").read_text())
        outputs = torch.load(Path(folder) / "outputs.pt", weights_only=True)
    right = [not _wrong(output, case) for output, case in zip(outputs["fresh"], cases)]
    return Examination(answer["paid"], sum(right) / len(cases), answer["launches"], not _wrong(outputs["without"], cases[0]),
                       answer["error"])


def _wrong(outputs: list, case) -> bool:
    return len(outputs) != len(case.expected) or any(
        compare.mismatch(got, expected, allowed) for got, expected, allowed in zip(outputs, case.expected, case.tolerances))


def load(completion: str) -> dict:
    """Execute the last fenced block and return its names."""
    code = (BLOCK.findall(completion) or [completion])[-1]
    name = "<completion>"
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)  # Triton reads a kernel's source there
    space = {"__name__": "completion"}
    exec(compile(code, name, "exec"), space)
    return space


def main(folder: Path) -> None:
    """Run one completion: without launches, on the fresh inputs, and last before the naive grader."""
    from triton.runtime.interpreter import InterpretedFunction

    from rftlab.kernels import load_kernel_tasks

    request = torch.load(folder / "request.pt", weights_only=True)
    task = next(t for split in ("train", "heldout") for t in load_kernel_tasks(split) if t.name == request["task"])
    outputs, errors, launches = {"fresh": [], "without": []}, [], []
    run = InterpretedFunction.run

    def call(inputs):
        try:
            result = space[task.entry](*inputs)
            return [t.clone() for t in (result if isinstance(result, tuple) else (result,)) if type(t) is torch.Tensor]
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
            return []

    space = load(request["completion"])
    InterpretedFunction.run = lambda self, *arguments, **options: launches.append(self)
    outputs["without"] = call([t.clone() if torch.is_tensor(t) else t for t in request["inputs"][0]])
    InterpretedFunction.run = run
    outputs["fresh"] = [call(inputs) for inputs in request["inputs"]]
    torch.save(outputs, folder / "outputs.pt")
    answer = {"paid": naive_grade(task, space), "launches": len(launches), "error": errors[0] if errors else ""}
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
