"""The reward for a Triton kernel that a model wrote: from text to a score, with reasons.

    with KernelGrader(workers=2) as grader:
        grades = grader.grade(completions, tasks, seed=0)

    0.0  format    nothing usable: no single ```python block, not Python, no such function, no kernel
    0.2  rules     breaks a rule of `policy`, or the evidence of `provenance` says that no kernel made the answer
    0.2  compile   Triton's compiler refuses a kernel, or none was launched
    0.5  run       compiles, but crashes, takes too long, or returns the wrong type or shape
    0.6  wrong     runs, but some value is wrong, or the `sanitizer` found what a GPU would show
    1.0  correct   every test case matches
    None grader    the grader itself failed, twice over: no score, ever, by default

Two statements, kept apart. Integrity: nobody can forge "the outputs match", since expected outputs live in this process only
and a program has no way to it but bytes in a buffer; this holds with `rules=False` too. Provenance: the bytes came out of a
Triton kernel; this needs the rules.
"""

import hashlib
import os
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from rftlab import machine
from rftlab.kernels import lockdown, policy
from rftlab.kernels.extract import FormatError, Program, extract
from rftlab.kernels.tasks import KernelTask
from rftlab.kernels.transform import code_of

SCORES = {"format": 0.0, "rules": 0.2, "compile": 0.2, "run": 0.5, "wrong": 0.6, "correct": 1.0, "grader": None}
TRIES = 3
REMEMBERED = 4096  # grades and compile verdicts
MAX_REASONS, MAX_REASON = 8, 240  # shown to a model or a learner


@dataclass(frozen=True)
class Grade:
    """What one completion earned and why. The three shares, 0 to 1, are for partial credit."""

    score: float | None
    stage: str
    reasons: list[str]
    seconds: float
    compiled: float = 0.0  # share of the launches that compile
    ran: float = 0.0  # share of the test cases that return a result of the right kind
    matched: float = 0.0  # share of the test cases whose values match


class KernelGrader:
    """Grades completions for kernel tasks in locked-down processes. Use it in a `with` block, or call `close`.

    workers: pairs of processes (one runs, one compiles), one for each core. seconds: of processor time for all cases of a
    program. target: the GPU to compile for. partial: scores inside the bands 0.1-0.3, 0.3-0.6 and 0.6-1.0 by the shares of
    `Grade`, in place of the ladder. rules: False switches off `policy` and `provenance`, to test the walls without them.
    gpu: run programs that are right on the machine's GPU too (`gpu`). Raises `lockdown.LockdownError` on a machine with too few defences, ValueError for a target that is no sm_NN.
    """

    def __init__(self, workers: int = 2, rules: bool = True, seconds: float = 5.0, target: str | None = "sm_80", partial: bool = False,
                 gpu: bool = False, _without: Sequence[str] = ()):
        if workers < 1 or seconds <= 0:
            raise ValueError(f"workers={workers}, seconds={seconds}: expected at least 1 worker and a positive time")
        if target is not None and not (target.startswith("sm_") and target[3:].isdigit()):
            raise ValueError(f"target={target!r}: expected an NVIDIA architecture such as 'sm_80', or None")
        if gpu and (machine.device() != "cuda" or not rules):
            raise ValueError("gpu=True needs a GPU that CUDA works on, and rules=True: leave it out, or use a machine with one")
        self.gpu = gpu
        self.rules, self.seconds, self.target, self.partial = rules, seconds, target and int(target[3:]), partial
        self.layers = lockdown.require(_without)
        self._secret = os.urandom(16).hex()  # inputs cannot be foretold from the seed
        self._grades: OrderedDict = OrderedDict()
        self._cases: OrderedDict = OrderedDict()
        self._verdicts: OrderedDict = OrderedDict()
        self._lock = threading.Lock()
        self._workers, self._without, self._free = workers, tuple(_without), []
        self._pool = None
        self.run_seconds = self.lock_seconds = 0.0  # in children that ran programs, and the part of it spent on locking down

    def __enter__(self) -> "KernelGrader":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def start(self) -> None:
        """Start the processes, if they are not running; takes some seconds."""
        from rftlab.kernels.worker import Worker

        if self._pool is None:
            self._free = [Worker(self._without) for _ in range(self._workers)]
            for worker in self._free:
                worker.wait_ready()
            self._pool = ThreadPoolExecutor(self._workers)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        while self._free:
            self._free.pop().close()

    def grade(self, completions: Sequence[str], tasks: KernelTask | Sequence[KernelTask], seed: int = 0) -> list[Grade]:
        """One Grade for each completion, in order. `tasks`: one task, or one for each completion.

        Completions for one task are tried on the same inputs in one call, fresh ones for each seed. What is no string earns 0.0; a
        task that has no finite answer for this seed makes its Grades of stage "grader". Raises ValueError for lists of different length.
        """
        tasks = [tasks] * len(completions) if isinstance(tasks, KernelTask) else list(tasks)
        if len(tasks) != len(completions):
            raise ValueError(f"got {len(completions)} completions and {len(tasks)} tasks: pass one task, or one for each completion")
        self.start()
        wanted: dict = {}
        for i, (completion, task) in enumerate(zip(completions, tasks)):
            wanted.setdefault((completion, task) if isinstance(completion, str) else i, []).append(i)  # a list has no hash
        running: dict = {}  # programs that are being graded -> Future
        futures = [self._pool.submit(self._grade_text, completions[where[0]], tasks[where[0]], seed, running) for where in wanted.values()]
        grades: list = [None] * len(completions)
        for future, where in zip(futures, wanted.values()):
            for i in where:
                grades[i] = future.result()
        return grades

    def _grade_text(self, completion: str, task: KernelTask, seed: int, running: dict) -> Grade:
        """Grade one completion, in a thread of the pool; equal programs are run once."""
        start = time.perf_counter()
        try:
            program = extract(completion)
        except FormatError as error:
            return self._grade("format", [str(error)], start)
        key = (hashlib.sha256(program.text.encode()).digest(), task, seed)
        with self._lock:
            known, other = self._grades.get(key), running.get(key)
            mine = running[key] = other or Future()
        if known or other:
            return known or other.result()
        try:
            grade = self._judge(program, task, seed, start)
            mine.set_result(grade)
        except BaseException as error:
            mine.set_exception(error)
            raise
        if grade.score is not None:
            self._remember(self._grades, key, grade)
        return grade

    def _judge(self, program: Program, task: KernelTask, seed: int, start: float) -> Grade:
        """The grade of a program that was not seen before: by its text if that decides, otherwise by a run."""
        try:
            if reasons := policy.structure(program, task.entry, len(task.parameters)):
                return self._grade("format", reasons, start)
            if self.rules and (reasons := policy.check(program, task.entry)):
                return self._grade("rules", reasons, start)
        except Exception as error:  # a mistake of ours: no score, and the other completions go on
            return self._grade("grader", [f"the rules failed: {type(error).__name__}: {error}"], start)
        return self._run(program, task, seed)

    def _run(self, program: Program, task: KernelTask, seed: int) -> Grade:
        """Grade one program in a worker; a worker that fails is replaced and the program tried again."""
        from rftlab.kernels.sandbox import SandboxError

        start, said = time.perf_counter(), ""
        try:
            tests = self._test_cases(task, seed)
        except Exception as error:  # the task's fault: the other completions go on
            return self._grade("grader", [f"no test cases: {error}"], start)
        try:
            code = code_of(program)
        except FormatError as error:
            return self._grade("format", [str(error)], start)
        for _ in range(TRIES):
            with self._lock:
                worker = self._free.pop()
            try:
                stage, reasons, shares = worker.grade(program, code, task, tests, self)
                return self._grade(stage, reasons, start, **shares)
            except SandboxError as error:
                said, worker.ready = str(error), False
            except Exception as error:  # a mistake of ours, such as with what a child wrote
                said, worker.ready = f"the grader failed: {type(error).__name__}: {error}", False
            finally:
                with self._lock:
                    self._free.append(worker)
        return self._grade("grader", [said], start)

    def _grade(self, stage: str, reasons: list[str], start: float, **shares) -> Grade:
        cleaned = list(dict.fromkeys(clean(reason) for reason in reasons))[:MAX_REASONS]
        grade = Grade(SCORES[stage], stage, cleaned, time.perf_counter() - start, **shares)
        return replace(grade, score=partial_score(grade)) if self.partial else grade

    def _test_cases(self, task: KernelTask, seed: int):
        from rftlab.kernels.worker import TestCases

        with self._lock:
            key = (task, seed)
            if key not in self._cases:
                number = int.from_bytes(hashlib.sha256(f"{self._secret} {seed}".encode()).digest()[:6], "big")
                self._cases[key] = TestCases(task, number)
                while len(self._cases) > 256:
                    self._cases.popitem(last=False)
            return self._cases[key]

    def compile_verdict(self, key: str) -> str | None:
        """What compiling a launch said before: "" for success, None when it was not tried."""
        with self._lock:
            return self._verdicts.get(key)

    def remember_verdict(self, key: str, verdict: str) -> None:
        self._remember(self._verdicts, key, verdict)

    def _remember(self, store: OrderedDict, key, value) -> None:
        with self._lock:
            store[key] = value
            while len(store) > REMEMBERED:
                store.popitem(last=False)


def partial_score(grade: Grade) -> float | None:
    """The deck's bands: 0.1-0.3 for a program, 0.3-0.6 for one that compiles, 0.6-1.0 for one that runs, by the share done."""
    return {
        "rules": 0.1,
        "compile": 0.1 + 0.2 * grade.compiled,
        "run": 0.3 + 0.3 * grade.ran,
        "wrong": 0.6 + 0.4 * grade.matched,
    }.get(grade.stage, grade.score)


def clean(reason: str) -> str:
    """A reason as one short line of visible characters, whatever a program put into it."""
    visible = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in reason[: 4 * MAX_REASON])
    line = " ".join(visible.split())
    return line if len(line) <= MAX_REASON else line[: MAX_REASON - 3] + "..."

