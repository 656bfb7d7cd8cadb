"""One worker of the grader: runs a program, compiles what it launched, and compares the bytes. Trusted side."""

import signal

import torch

from rftlab.kernels import compile as compiling
from rftlab.kernels import gpu
from rftlab.kernels.child import ANSWERS
from rftlab.kernels.compare import mismatch
from rftlab.kernels.evidence import MAX_LAUNCHES
from rftlab.kernels.extract import Program
from rftlab.kernels.sandbox import SIZE, Outcome, Sandbox, SandboxError
from rftlab.kernels.tasks import KernelTask
from rftlab.kernels.zygote import NOTES

COMPILE_SECONDS = 10.0
TELLING = 32  # numbers in an answer that is not right by chance: the smallest such case is the one for the ablation
FAULTS = {
    "loads outside": "{} lanes load outside the tensors of the launch: mask them off",
    "stores outside": "{} lanes store outside the tensors of the launch: mask them off",
    "atomics outside": "{} atomic operations outside the tensors of the launch: mask them off",
    "unsynchronised": "a race on {} elements: a program stores and loads them in different lanes, with no tl.debug_barrier() between",
    "overwritten": "a race on {} elements: a program writes them in different lanes, with no tl.debug_barrier() between",
    "races": "a race on {} elements: programs read and write the same memory, and nothing orders them",
}
REPEATED = {
    "disordered": "the answer depends on the order in which programs run, and nothing orders them",
    "misconfigured": "another configuration of autotune gives another answer",
}


class TestCases:
    """The test cases of a task for one seed, laid out for the shared memory. Only `layout` and `blob` reach a child."""

    def __init__(self, task: KernelTask, seed: int):
        self.order = seed  # decides the order of programs, which nobody can foretell either
        self.cases = [task.make_case(i, seed) for i in range(len(task.shapes))]
        self.layout, parts, at = [], [], NOTES
        for case in self.cases:
            inputs = []
            for value in case.inputs:
                if torch.is_tensor(value):
                    raw = storage_bytes(value)
                    inputs.append({"at": at, "bytes": len(raw), "dtype": _name(value.dtype), "shape": list(value.shape),
                                   "stride": list(value.stride()), "offset": value.storage_offset()})
                    parts.append(raw + bytes(-len(raw) % 64))
                    at += len(parts[-1])
                else:
                    inputs.append({"value": value})
            self.layout.append({"inputs": inputs, "is_tuple": case.is_tuple, "outputs": []})
        self.blob, self.answers_at = b"".join(parts), at
        for key in ("at", "ablated_at"):
            for case, place in zip(self.cases, self.layout):
                for i, expected in enumerate(case.expected):
                    if key == "at":
                        place["outputs"].append({"dtype": _name(expected.dtype), "shape": list(expected.shape)})
                    place["outputs"][i][key] = at
                    at += expected.numel() * expected.element_size()
                    at += -at % 64
        self.end = at
        if self.end > SIZE:
            raise ValueError(f"task {task.name!r}: its test cases take {self.end} bytes, more than {SIZE}: choose smaller shapes")
        sizes = [sum(e.numel() for e in case.expected) for case in self.cases]
        self.ablate = min(range(len(sizes)), key=lambda i: (sizes[i] < TELLING, sizes[i] if sizes[i] >= TELLING else -sizes[i]))


def storage_bytes(value: torch.Tensor) -> bytes:
    """The memory that a tensor looks into, gaps included."""
    return torch.tensor([], dtype=torch.uint8).set_(value.untyped_storage()).numpy().tobytes()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class Worker:
    """A zygote that runs and one that compiles."""

    def __init__(self, without=()):
        self.without, self.gpu, self.ready = without, None, True  # ready: False after a failure, until it is started anew
        self._start()

    def _start(self) -> None:
        self.runner = Sandbox("rftlab.kernels.child", {"TRITON_INTERPRET": "1"}, self.without)
        self.compiler = Sandbox("rftlab.kernels.compile", {"TRITON_DISABLE_LINE_INFO": "1"}, self.without)

    def wait_ready(self) -> None:
        self.runner.wait_ready()
        self.compiler.wait_ready()

    def restart(self) -> None:
        self.close()
        self._start()
        self.wait_ready()
        self.ready = True

    def processes(self) -> list[int]:
        """The process numbers of the zygotes."""
        return [self.runner.process.pid, self.compiler.process.pid]

    def close(self) -> None:
        self.runner.close()
        self.compiler.close()
        if self.gpu is not None:
            self.gpu.close()

    def grade(self, program: Program, code: bytes, task: KernelTask, tests: TestCases, grader) -> tuple[str, list[str], dict]:
        """(stage, reasons, shares) of a program that the text did not decide, and its code. Raises SandboxError when a zygote fails."""
        if not self.ready:
            self.restart()
        outcome, compared, ablated = self._run(code, task, tests, grader)
        if grader.rules and (reasons := provenance(program, outcome, compared, ablated)):
            return "rules", reasons, {}
        refused, compiled = self._compile(program, outcome, grader) if grader.target else ([], 0.0)
        if refused:
            return "compile", refused, {"compiled": compiled}
        stage, reasons, shares = judge(program, outcome, compared, compiled)
        if stage == "correct" and grader.gpu:
            stage, reasons, shares = self._run_on_gpu(program, task, tests, shares)
        return stage, reasons, shares

    def _run_on_gpu(self, program: Program, task: KernelTask, tests: TestCases, shares: dict):
        """The verdict of the machine's GPU on a program that is right so far; see `gpu`."""
        if self.gpu is None:
            self.gpu = gpu.GpuWorker(SIZE)
        job = {"text": program.text, "entry": task.entry, "cases": tests.layout}
        answer = self.gpu.run(job, tests.blob, NOTES)
        if answer is None or "failed" in answer:
            said = spoken(program, answer["failed"]) if answer else "crashed, or took too long"
            return "run", [f"on the GPU: {said}"], {**shares, "ran": 0.0, "matched": 0.0}
        compared = [compare(self.gpu.memory, case, place, "at", gpu.SLACK) for case, place in zip(tests.cases, tests.layout)]
        wrong = [f"case {i}, on the GPU: {text}" for i, text in enumerate(compared) if text != ""]
        return ("wrong", wrong, {**shares, "matched": compared.count("") / len(compared)}) if wrong else ("correct", [], shares)

    def _run(self, code: bytes, task: KernelTask, tests: TestCases, grader):
        """Run all cases in one child; returns how it ended, and what is wrong with each answer, with stores on and off."""
        memory = self.runner.memory
        memory[NOTES : tests.answers_at] = tests.blob
        memory[tests.answers_at : tests.end] = bytes([ANSWERS]) * (tests.end - tests.answers_at)
        job = {"code": code.hex(), "entry": task.entry, "rules": grader.rules, "cases": tests.layout, "order": tests.order, "ablate": tests.ablate}
        try:
            outcome = self.runner.run(job, grader.seconds)
            compared = [compare(memory, case, place, "at") for case, place in zip(tests.cases, tests.layout)]
            ablated = compare(memory, tests.cases[tests.ablate], tests.layout[tests.ablate], "ablated_at")
        finally:
            self.runner.forget()  # nothing stays for the next child
        grader.run_seconds, grader.lock_seconds = grader.run_seconds + outcome.seconds, grader.lock_seconds + outcome.lock_seconds
        return outcome, compared, ablated

    def _compile(self, program: Program, outcome: Outcome, grader) -> tuple[list[str], float]:
        """Why launches do not compile, and the share of those that do. The first of each kernel goes down to PTX."""
        launches = to_compile(outcome.launches()[: MAX_LAUNCHES + 1])
        if len(launches) > MAX_LAUNCHES:
            return [f"more than {MAX_LAUNCHES} launches with different types or constants"], 0.0
        if not launches:
            failed = [f"case {case}: {spoken(program, text)}" if case >= 0 else spoken(program, text) for case, text in outcome.failures()[:1]]
            return (["no kernel was launched, so none was compiled", *failed] if grader.rules else []), 0.0
        keys = [compiling.key(program.text, launch, grader.target) for launch in launches]
        verdicts = [grader.compile_verdict(key) for key in keys]
        todo = [i for i, verdict in enumerate(verdicts) if verdict is None]
        if todo:
            job = {"text": program.text, "target": grader.target, "facts": outcome.facts(), "launches": [launches[i] for i in todo]}
            try:
                found = verdicts_of(self.compiler.run(job, COMPILE_SECONDS), len(todo), program)
            finally:
                self.compiler.forget()
            for i, verdict in zip(todo, found):
                verdicts[i] = verdict
                grader.remember_verdict(keys[i], verdict)
        return list(dict.fromkeys(v for v in verdicts if v)), sum(not v for v in verdicts) / len(verdicts)


def to_compile(launches: list[dict]) -> list[dict]:
    """The launches, with "full" on the first and the largest of each kernel: they go down to PTX, the others through the front end.

    Of those of autotune the smallest goes down to PTX: a GPU passes over those that need too much memory.
    """
    chosen: dict[str, list[int]] = {}
    trials = sorted((i for i, launch in enumerate(launches) if launch["trial"]), key=lambda i: -_size(launches[i]))
    smallest = {launches[i]["kernel"]: i for i in trials}
    for i, launch in enumerate(launches):
        if launch["trial"] and i != smallest[launch["kernel"]]:
            continue
        mine = chosen.setdefault(launch["kernel"], [i, i])
        if _size(launch) > _size(launches[mine[1]]):
            mine[1] = i
    return [{**launch, "full": i in chosen.get(launch["kernel"], ())} for i, launch in enumerate(launches)]


def _size(launch: dict) -> int:
    """The product of a launch's whole-number constants, as a measure of its blocks."""
    product = 1
    for value in launch["signature"].values():
        if isinstance(value, dict) and type(value.get("constant")) is int and 1 < value["constant"] < 2**20:
            product *= value["constant"]
    return product


def verdicts_of(outcome: Outcome, count: int, program: Program) -> list[str]:
    """"" or the compiler's objection, for each launch of a job. Raises SandboxError when the child ended without a word."""
    found = {number: "" for number in outcome.numbers("compiled")}
    found |= {number: "does not compile: " + spoken(program, said) for number, said in outcome.refusals()}
    died = outcome.status or not outcome.in_time
    if not died and not outcome.full() and not found.keys() >= set(range(count)):
        raise SandboxError("the compiling child said nothing")
    if not died:
        return [found.get(number, "does not compile: the compiler said more than there is room for") for number in range(count)]
    reason = "the compiler took too long" if not outcome.in_time or outcome.status == -signal.SIGXCPU else f"the compiler died of signal {-outcome.status}"
    return [found.get(number, reason) for number in range(count)]


def compare(memory, case, place: dict, key: str, slack: float = 1.0) -> str | None:
    """What is wrong with the bytes of one case's answer: "" for nothing, None when nothing was written."""
    wrong, untouched = [], True
    for output, expected, allowed in zip(place["outputs"], case.expected, case.tolerances):
        raw = bytearray(memory[output[key] : output[key] + expected.numel() * expected.element_size()])
        untouched &= raw.count(ANSWERS) == len(raw) > 3
        if expected.dtype == torch.bool and max(raw) > 1:
            wrong.append("values that are neither True nor False")
        else:
            wrong.append(mismatch(torch.frombuffer(raw, dtype=expected.dtype).reshape(expected.shape), expected, slack * allowed))
    return None if untouched else next((text for text in wrong if text), "")


def provenance(program: Program, outcome: Outcome, compared: list, ablated: str | None) -> list[str]:
    """The evidence that the answer was not made by kernels; believable because the program keeps the rules.

    A launch of no programs, as on a grid of n // BLOCK, is a mistake of a program that is wrong, and evidence against one that is right.
    """
    reasons = []
    for operation, line, why in outcome.torch_operations():
        reasons.append((f"line {program.line(line)}: " if line else "") + f"torch.{operation} outside kernels: {why}")
    if outcome.full():
        reasons.append("too many launches and failures to keep account of")
    ran = outcome.numbers("ran")
    for case, programs, _ in outcome.cases():
        if case in ran and not any(programs) and (not programs or not any(compared)):
            reasons.append(f"case {case}: no program of any kernel ran")
    if ablated == "" and not reasons:
        reasons.append("with the stores of all kernels switched off the answer stays right: no kernel made it")
    return reasons


def judge(program: Program, outcome: Outcome, compared: list, compiled: float) -> tuple[str, list[str], dict]:
    """The stage of a program that keeps the rules and compiles."""
    ran = outcome.numbers("ran") if outcome.in_time and outcome.status == 0 else set()
    returned = [i in ran and compared[i] is not None for i in range(len(compared))]
    found: dict[int, list[str]] = {}
    for case, _, findings in outcome.cases():  # some cases ran more than once
        found.setdefault(case, []).extend(FAULTS[kind].format(number) for kind, number in findings.items() if kind in FAULTS and number)
    for note, fault in REPEATED.items():
        for case in outcome.numbers(note) & found.keys():
            found[case].append(fault)
    faults = [f"case {case}: {text}" for case, texts in sorted(found.items()) for text in dict.fromkeys(texts)]
    matched = [r and c == "" and not found.get(i) for i, (r, c) in enumerate(zip(returned, compared))]
    shares = {"compiled": compiled, "ran": sum(returned) / len(returned), "matched": sum(matched) / len(matched)}
    if not all(returned):
        return "run", run_reasons(program, outcome), shares
    wrong = [f"case {i}: {text}" for i, text in enumerate(compared) if text]
    if wrong or faults:
        return "wrong", faults + wrong, shares
    return "correct", [], shares


def run_reasons(program: Program, outcome: Outcome) -> list[str]:
    if not outcome.in_time or outcome.status in (-signal.SIGXCPU, -signal.SIGKILL):
        return ["took too long"]
    if outcome.status:
        return [f"the process died with {'signal' if outcome.status < 0 else 'status'} {abs(outcome.status)}"]
    failed = [f"case {case}: {spoken(program, said)}" if case >= 0 else spoken(program, said) for case, said in outcome.failures()]
    return list(dict.fromkeys(failed)) or ["the program ended before it returned a result"]


def spoken(program: Program, text: str) -> str:
    """"14|ValueError: ..." as the child wrote it, with the line as the author wrote it."""
    number, _, said = text.partition("|")
    return f"line {program.line(int(number))}: {said}" if number.isdecimal() and len(number) < 7 and int(number) else said or text
