"""Inside the locked-down child: run one program on the inputs of every test case, and leave the raw bytes of its answers.

There is nothing here to steal: expected outputs, tolerances and seeds are in another process. What is written to the notes
is a report on itself by a process that ran a stranger's program: believed only behind the rules, and never enough to be paid
for a right answer.
"""

import ctypes
import json
import linecache
import marshal
import os
import sys
import types
import warnings

from rftlab.kernels.evidence import Evidence
from rftlab.kernels.extract import FILE, extract
from rftlab.kernels.facts import facts
from rftlab.kernels.transform import code_of

MODULE = "completion"
MOST = 600  # bytes of a message in the notes
ANSWERS = 0x5A  # fills the room for answers before the run: a byte pattern, large and finite in every float type


def prepare() -> None:
    """Import and warm up everything, once, in the zygote. Returns what children find as file 0: nothing."""
    os.environ["TRITON_INTERPRET"] = "1"
    import numpy as np
    import numpy.ma  # noqa: F401  (np.intersect1d imports it late)
    import torch
    import triton

    from rftlab.kernels import devices, interpreter, libdevice, provenance  # noqa: F401  (imported for the children)

    torch.set_num_threads(1)
    np.seterr(all="ignore")
    warnings.simplefilter("ignore")
    interpreter.install()
    libdevice.install()
    devices.install(torch, triton)
    warm_up()


WARM = '''```python
import torch
import triton
import triton.language as tl
@triton.jit
def helper(x):
    return x * 2.0
@triton.jit
def kernel(x, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + i, mask=i < n, other=0.0)
    v = tl.where(v > 0, tl.exp(helper(v)) + tl.sum(v, 0), v).to(tl.float16)
    tl.store(x + i, v, mask=i < n)
def run(x):
    out = torch.empty_like(x)
    kernel[lambda meta: (triton.cdiv(x.numel(), meta["B"]),)](out, x.numel(), B=16)
    return out
```'''


def warm_up() -> None:
    """One run in the zygote, so that what Python, numpy, torch and Triton do lazily is done before the forks."""
    import torch

    job = {"code": code_of(extract(WARM)).hex(), "order": 0}
    evidence, module = Evidence(job, lambda **_: None), load(job)
    evidence.call(module.run, [torch.ones(20)], 0)
    evidence.log.__exit__(None, None, None)
    del sys.modules[MODULE]


def load(job: dict) -> types.ModuleType:
    """Execute a program's code as a module, to be interpreted."""
    from rftlab.kernels import rewriting

    code, rewriting.kernels = marshal.loads(bytes.fromhex(job["code"]))
    return execute(code)


def load_text(text: str) -> types.ModuleType:
    """Execute a text, which ends with a line end, as a module whose source Triton finds."""
    linecache.cache[FILE] = (len(text), None, [line + "\n" for line in text.split("\n")[:-1]], FILE)
    return execute(compile(text, FILE, "exec"))


def execute(code: types.CodeType) -> types.ModuleType:
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    exec(code, module.__dict__)
    return module


def work(job: dict, memory, note) -> None:
    """Run a job: {"code", "entry", "rules", "cases": [{"inputs", "outputs"}], "order": number, "ablate": case}."""
    try:
        inputs = [[read_input(memory, one) for one in case["inputs"]] for case in job["cases"]]
        again = [read_input(memory, one) for one in job["cases"][job["ablate"]]["inputs"]]
        module = load(job)
        note(facts=facts(module))
        function = getattr(module, job["entry"])
        evidence = Evidence(job, note)
    except BaseException as error:
        note(failed=describe(error), case=-1)
        return
    kept = {}
    for number, case in enumerate(job["cases"]):
        try:
            result = evidence.call(function, inputs[number], number)
            answers = check_result(result, case["outputs"], case["is_tuple"])
            write(memory, answers, case["outputs"], "at")
            kept[number] = [answer.clone() for answer in answers], evidence.configurations
            note(ran=number)
        except BaseException as error:
            note(failed=describe(error), case=number)
    if kept:
        repeat(job, memory, note, evidence, kept)
    if job["rules"]:
        try:
            result = evidence.call(getattr(load(job), job["entry"]), again, job["ablate"], stores=False)
            case = job["cases"][job["ablate"]]
            write(memory, check_result(result, case["outputs"], case["is_tuple"]), case["outputs"], "ablated_at")
            note(ablated=True)
        except BaseException:
            pass  # no answer without the stores: as it should be


def repeat(job: dict, memory, note, evidence: Evidence, kept: dict) -> None:
    """Call again what could come out otherwise: with atomics in the opposite order of programs, and with each configuration of autotune.

    `kept`: answers and number of configurations of the cases that ran. The program begins anew, and all cases are called in turn, or it could tell this run by what it
    has kept from the first. Only atomics can make an answer depend on the order without a race.
    """
    try:
        function = getattr(load(job), job["entry"]) if evidence.atomics else None
        for number, case in enumerate(job["cases"] if evidence.atomics else ()):
            inputs = [read_input(memory, one) for one in case["inputs"]]
            if evidence.differs(kept.get(number, [[]])[0], function, inputs, number, backwards=True) and number in kept:
                note(disordered=number)
        for number, (answers, configurations) in kept.items():
            for configuration in range(configurations) if configurations > 1 else ():
                function, inputs = getattr(load(job), job["entry"]), [read_input(memory, one) for one in job["cases"][number]["inputs"]]
                if evidence.differs(answers, function, inputs, number, configuration=configuration):
                    note(misconfigured=number)
    except BaseException:  # what ran once does not run again
        for number in kept:
            note(disordered=number)


def read_input(memory, one: dict):
    """A fresh tensor with the bytes, shape and strides of an input, or a plain number."""
    import torch

    if "value" in one:
        return one["value"]
    raw = torch.frombuffer(bytearray(memory[one["at"] : one["at"] + one["bytes"]]), dtype=getattr(torch, one["dtype"]))
    return raw.as_strided(one["shape"], one["stride"], one["offset"])


def check_result(result, outputs: list[dict], is_tuple: bool) -> list:
    """The result's tensors; raises TypeError when type, number, dtype or shape is not what the reference returns."""
    import torch

    if is_tuple:
        if type(result) not in (tuple, list) or len(result) != len(outputs):
            raise TypeError(f"the function must return {len(outputs)} tensors")
    answers = list(result) if is_tuple else [result]
    for answer, expected in zip(answers, outputs):
        if type(answer) is not torch.Tensor:
            raise TypeError(f"the result is a {type(answer).__name__}, expected a torch.Tensor")
        if answer.layout != torch.strided or answer.device.type != "cpu":
            raise TypeError(f"the result is a {answer.layout} tensor on {answer.device}, expected a plain one where the inputs are")
        if str(answer.dtype) != "torch." + expected["dtype"]:
            raise TypeError(f"the result is {answer.dtype}, expected torch.{expected['dtype']}")
        if list(answer.shape) != expected["shape"]:
            raise TypeError(f"the result has shape {tuple(answer.shape)}, expected {tuple(expected['shape'])}")
    return answers


def write(memory, answers: list, outputs: list[dict], key: str) -> None:
    for answer, expected in zip(answers, outputs):
        dense = answer if answer.is_contiguous() else answer.contiguous()
        raw = ctypes.string_at(dense.data_ptr(), dense.numel() * dense.element_size())
        memory[expected[key] : expected[key] + len(raw)] = raw


def describe(error: BaseException) -> str:
    """One bounded line about an exception; the parent cleans it."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        text = str(error)[:300]
    except BaseException:
        text = ""
    return bounded(f"{line}|{type(error).__name__[:60]}: {text}")


def bounded(text: str) -> str:
    """A text that takes at most 600 bytes in the notes, where a letter may take 12: as much of it as fits, so that 64 fit there."""
    while len(json.dumps(text)) > MOST:
        text = text[: len(text) * 9 // 10]
    return text
