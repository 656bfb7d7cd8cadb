"""The grader from end to end: the ladder, the evidence, what it survives, and what it never does."""
import json
import subprocess
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from rftlab.kernels import Grade, KernelGrader, KernelTask, compile_reward, correctness_reward, format_reward, kernel_reward, load_kernel_tasks
from rftlab.kernels.child import bounded
from rftlab.kernels.extract import extract
from rftlab.kernels.grader import MAX_REASON, clean
from rftlab.kernels.sandbox import Outcome, SandboxError
from rftlab.kernels.worker import spoken, verdicts_of

pytest.importorskip("triton")

HEAD = "import torch\nimport triton\nimport triton.language as tl\n\n"
KERNEL = """@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=mask) + tl.load(y_ptr + at, mask=mask), mask=mask)

"""
ENTRY = """def add(x, y):
    out = torch.empty_like(x)
    add_kernel[(triton.cdiv(x.numel(), 128),)](x, y, out, x.numel(), BLOCK=128)
    return out
"""
HONEST = HEAD + KERNEL + ENTRY


def block(code):
    return f"```python\n{code}```\n"


def add(x, y):
    return x + y


TASK = KernelTask("add", add, [[(300,), (300,)], [(1,), (1,)], [(7, 33), (7, 33)]])


@pytest.fixture(scope="module")
def grader():
    with KernelGrader(workers=1, seconds=2.0) as running:
        yield running


@pytest.mark.parametrize("code, score, stage, reason", [
    (HONEST, 1.0, "correct", ""),
    (ENTRY, 0.0, "format", "no @triton.jit kernel"),
    (HEAD + KERNEL, 0.0, "format", "no function add"),
    (HONEST.replace("def add(x, y)", "def add(x)"), 0.0, "format", "must take 2 arguments"),
    (HONEST.replace("return out", "return x + y"), 0.2, "rules", "line 14: torch.add outside kernels: it computes"),
    (HONEST.replace("out = torch", "out = torch.add(x, y) if False else torch"), 0.2, "rules", "line 12: torch.add is not allowed"),
    (HONEST.replace("    add_kernel[", "    if x.numel() > 5:\n        return out\n    add_kernel["), 0.2, "rules", "no program of any kernel ran"),
    (HONEST.replace("(triton.cdiv(x.numel(), 128),)", "(x.numel() // 128,)"), 0.6, "wrong", "case 1: 1 of 1 values are not finite"),
    (HONEST.replace("tl.arange(0, BLOCK)", "tl.arange(0, n)"), 0.2, "compile", "line 7: "),
    (HONEST.replace("    out =", "    raise ValueError('no')\n    out ="), 0.2, "compile", "no kernel was launched"),
    (HONEST.replace("return out", "return out.view(-1)[:0]"), 0.5, "run", "shape"),
    (HONEST.replace("return out", "return 3"), 0.5, "run", "is a int"),
    (HONEST.replace("return out", "raise ValueError('no')"), 0.5, "run", "line 14: ValueError: no"),
    (HONEST.replace("    mask = at < n", "    while n > 0:\n        n = n + 0\n    mask = at < n"), 0.5, "run", "took too long"),
    (HONEST.replace("+ tl.load(y", "- tl.load(y"), 0.6, "wrong", "300 of 300 values are wrong"),
    (HONEST.replace("at < n", "at < n + 1"), 0.6, "wrong", "lanes store outside"),
    (HONEST.replace("at < n", "at < n - 1"), 0.6, "wrong", "values are"),
])  # fmt: skip
def test_the_ladder(grader, code, score, stage, reason):
    grade = grader.grade([block(code)], TASK)[0]
    assert (grade.score, grade.stage) == (score, stage), grade
    assert any(reason in text for text in grade.reasons) if reason else grade.reasons == []


def test_grades_come_in_order_and_duplicates_are_run_once(grader):
    wrong = HONEST.replace("+ tl.load(y", "- tl.load(y")
    grades = grader.grade([block(HONEST), block(wrong), "nothing", block(HONEST + "# the same\n")], [TASK] * 4, seed=3)
    assert [grade.score for grade in grades] == [1.0, 0.6, 0.0, 1.0]
    assert grades[0] is grades[3]


def test_lists_of_different_length_are_refused(grader):
    with pytest.raises(ValueError, match="2 completions and 1 tasks"):
        grader.grade(["a", "b"], [TASK])


def test_a_race_is_found_whatever_the_order(grader):
    def total(x):
        return x.sum().reshape(1)

    task = KernelTask("total", total, [[(300,)], [(129,)]])
    code = HEAD + """@triton.jit
def k(x, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.UPDATE

def total(x):
    out = torch.zeros(1)
    k[(triton.cdiv(x.numel(), 64),)](x, out, x.numel(), B=64)
    return out
"""
    value = "tl.sum(tl.load(x + i, mask=i < n, other=0.0), 0)"
    racy = grader.grade([block(code.replace("tl.UPDATE", f"tl.store(out, tl.load(out) + {value})"))], task)[0]
    assert racy.score == 0.6 and "race" in racy.reasons[0]
    assert grader.grade([block(code.replace("tl.UPDATE", f"tl.atomic_add(out, {value})"))], task)[0].score == 1.0


LOCKED = HEAD + """@triton.jit
def k(x, flag, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    part = tl.sum(tl.load(x + i, mask=i < n, other=0.0), 0)
    TAKE
    tl.store(out, tl.load(out) + part)
    tl.atomic_xchg(flag, 0)

def total(x):
    out = torch.zeros(1)
    flag = torch.zeros(1, dtype=torch.int32)
    k[(triton.cdiv(x.numel(), 64),)](x, flag, out, x.numel(), B=64)
    return out
"""


@pytest.mark.parametrize("take, score", [
    ("while tl.atomic_cas(flag, 0, 1) == 1:\n        pass", 1.0),
    ("while tl.atomic_xchg(flag, 1) == 1:\n        pass", 1.0),
    ("tl.atomic_cas(flag, 0, 1)", 0.6),
    ("first = tl.atomic_cas(flag, 0, 1)\n    if first > 5:\n        part = part * 2.0", 0.6),
    ("while tl.atomic_cas(flag, 0, 0) == 1:\n        pass", 0.6),
    ("if tl.atomic_add(flag, 1) == 0:\n        part = part * 1.0", 0.6),
])  # fmt: skip
def test_a_lock_orders_and_what_looks_like_one_does_not(grader, take, score):
    def total(x):
        return x.sum().reshape(1)

    assert grader.grade([block(LOCKED.replace("TAKE", take))], KernelTask("total", total, [[(300,)], [(129,)]]))[0].score == score


def test_freed_memory_does_not_hold_the_answer(grader):
    """The ablation is deterministic: the first run's answer was just freed, and torch would hand the memory out again."""
    for seed in range(4):
        assert grader.grade([block(HONEST.replace("128", "256"))], TASK, seed=seed)[0].score == 1.0


def test_the_same_program_compiles_once(grader, monkeypatch):
    jobs = []
    worker = grader._free[0]
    run = worker.compiler.run
    monkeypatch.setattr(worker.compiler, "run", lambda job, seconds: jobs.append(job) or run(job, seconds))
    code = block(HONEST.replace("128", "512"))
    assert [grader.grade([code], TASK, seed=seed)[0].score for seed in (1, 2)] == [1.0, 1.0]
    assert len(jobs) == 1


def test_without_rules_integrity_stays():
    exits = "import os, gc\ndef add(x, y):\n    os._exit(0)\n"
    liar = "class A:\n    def __eq__(self, other):\n        return True\ndef add(x, y):\n    return A()\n"
    spy = "def add(x, y):\n    return open('/etc/hostname').read()\n"
    with KernelGrader(workers=1, rules=False) as free:
        grades = free.grade([block(HEAD + KERNEL + code) for code in (exits, liar, spy)] + [block(HONEST)], TASK)
    assert [grade.score for grade in grades] == [0.5, 0.5, 0.5, 1.0]


@pytest.mark.parametrize("without", [("landlock",), ("seccomp",), ("uid",)])
def test_with_a_layer_taken_away(without):
    from rftlab.kernels import lockdown

    try:
        lockdown.require(without)
    except lockdown.LockdownError:
        pytest.skip("this machine has too few other layers")
    with KernelGrader(workers=1, _without=without) as fewer:
        assert not set(without) & set(fewer.layers)
        assert fewer.grade([block(HONEST)], TASK)[0].score == 1.0


def test_a_failure_of_the_grader_is_no_score(monkeypatch):
    with KernelGrader(workers=1) as broken:
        monkeypatch.setattr(broken._free[0], "_run", lambda *_: (_ for _ in ()).throw(SandboxError("gone")))
        monkeypatch.setattr(broken._free[0], "restart", lambda: None)
        grade = broken.grade([block(HONEST)], TASK)[0]
    assert (grade.score, grade.stage, grade.reasons) == (None, "grader", ["gone"])


def test_a_mistake_in_the_rules_is_no_score(grader, monkeypatch):
    monkeypatch.setattr("rftlab.kernels.policy.check", lambda *_: 1 / 0)
    grade = grader.grade([block(HONEST)], TASK, seed=11)[0]
    assert (grade.score, grade.stage) == (None, "grader") and "ZeroDivisionError" in grade.reasons[0]


def test_a_worker_that_cannot_be_started_again_is_no_score_either(monkeypatch):
    from rftlab.kernels.worker import Worker

    with KernelGrader(workers=1) as grader:
        grader._free[0].runner.process.kill()
        monkeypatch.setattr(Worker, "restart", lambda self: (_ for _ in ()).throw(SandboxError("does not start")))
        assert grader.grade([block(HONEST)], TASK)[0].score is None
        monkeypatch.undo()
        assert grader.grade([block(HONEST)], TASK)[0].score == 1.0  # and it recovers


def test_only_a_child_that_sleeps_on_is_overtime(monkeypatch):
    """The clock jumps by ten seconds a look, as that of a virtual machine that was halted does."""
    from itertools import count

    from rftlab.kernels import zygote

    monkeypatch.setattr(zygote.time, "perf_counter", partial(next, count(0.0, 10.0)))
    for nap, seconds, told in ((2.5, 5.0, ""), (60, 0.4, "overtime")):
        child = subprocess.Popen(["sleep", str(nap)])
        assert zygote.wait(child.pid, seconds) == told
        child.wait()


def test_a_dead_zygote_is_replaced():
    with KernelGrader(workers=1) as grader:
        grader._free[0].runner.process.kill()
        grader._free[0].runner.process.wait()
        assert grader.grade([block(HONEST)], TASK)[0].score == 1.0


def test_partial_credit_stays_in_its_band():
    half = HONEST.replace("    return out", "    return out if x.dim() == 1 else out.view(-1)")
    some = HONEST.replace("at < n", "at < (n if n < 300 else 299)")
    with KernelGrader(workers=1, partial=True) as grader:
        scores = [grade.score for grade in grader.grade([block(c) for c in (HONEST, half, some, HEAD + KERNEL + "def add(x, y):\n    return x\n")], TASK)]
    assert scores == pytest.approx([1.0, 0.3 + 0.3 * 2 / 3, 0.6 + 0.4 * 2 / 3, 0.1])


def test_the_three_rewards_share_the_evidence(grader):
    texts = [block(HONEST), block(HONEST.replace("at < n", "at < (n if n < 300 else 299)")), block(HEAD + KERNEL + "def add(x, y):\n    return x\n"), "no"]
    column = {"prompts": ["p"] * 4, "completions": texts, "task": ["add"] * 4}
    parts = [make(grader, [TASK])(**column) for make in (format_reward, compile_reward, correctness_reward)]
    assert parts == [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, pytest.approx(2 / 3), 0.0, 0.0]]
    assert kernel_reward(grader, {"add": TASK})(**column) == [1.0, 0.6, 0.2, 0.0]
    with pytest.raises(ValueError, match='reads the column "task"'):
        kernel_reward(grader, [TASK])(prompts=["p"], completions=["c"])


def test_reasons_are_one_short_visible_line(grader):
    assert clean("a\x1b[31m\n\u202eb\u200b  c") == "a [31m b c"
    assert len(clean("x" * 10_000)) == MAX_REASON
    grade = grader.grade([block(HONEST.replace("return out", "raise ValueError('\\x1b[2J\\n' * 500)"))], TASK)[0]
    assert all(text.isprintable() and len(text) <= MAX_REASON for text in grade.reasons)


@pytest.mark.parametrize("options, why", [({"workers": 0}, "at least 1"), ({"seconds": 0}, "positive"), ({"target": "a100"}, "sm_80")])
def test_options_that_cannot_work(options, why):
    with pytest.raises(ValueError, match=why):
        KernelGrader(**options)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_no_string_makes_it_raise(grader, text):
    for completion in (text, block(text + "\n"), block(HONEST.replace("    return out", "    " + text))):
        grade = grader.grade([completion], TASK)[0]
        assert isinstance(grade, Grade) and grade.score in (0.0, 0.2, 0.5, 0.6, 1.0)


@pytest.mark.parametrize("expression", ["max(v, 0.0)", "tl.where(v > 0.0 and v == v, v, 0.0)", "tl.where(not (v > 0.0), 0.0, v)", "max(0.0, min(v, 1e30))"])
def test_python_operators_work_lane_by_lane_in_kernels(grader, expression):
    kernel = KERNEL.replace("y_ptr, ", "").replace("tl.load(x_ptr + at, mask=mask) + tl.load(y_ptr + at, mask=mask)", expression)
    kernel = kernel.replace("    tl.store", "    v = tl.load(x_ptr + at, mask=mask)\n    tl.store")
    code = HEAD + kernel + ENTRY.replace("add(x, y)", "relu(x)").replace("x, y, out", "x, out")
    grade = grader.grade([block(code)], KernelTask("relu", torch.relu, [[(300,)], [(5, 7)]], entry="relu"))[0]
    assert grade.score == 1.0, grade


def test_half_types_round_as_torch_does(grader):
    def twice(x):
        return x * 1.5

    code = HEAD + KERNEL.replace("y_ptr, ", "").replace("+ tl.load(y_ptr + at, mask=mask)", "* 1.5") + ENTRY.replace("(x, y)", "(x)").replace("x, y, out", "x, out")
    for dtype in ("float16", "bfloat16"):
        task = KernelTask("twice", twice, [[(300,)], [(5, 7)]], dtype=dtype)
        assert grader.grade([block(code.replace("def add(", "def twice("))], task)[0].score == 1.0


def test_a_run_on_the_gpu_is_compared_too(monkeypatch):
    """The plumbing, with Triton's plain interpreter in the place of the GPU."""
    from rftlab.kernels import gpu

    made = gpu.GpuWorker.__init__
    monkeypatch.setattr(gpu.GpuWorker, "__init__", lambda self, size: made(self, size, "cpu"))
    with KernelGrader(workers=1) as grader:
        grader.gpu = True
        assert grader.grade([block(HONEST)], TASK)[0].score == 1.0
        monkeypatch.setattr(gpu.GpuWorker, "run", lambda self, job, blob, at: {"failed": "6|RuntimeError: out of registers"})
        grade = grader.grade([block(HONEST)], TASK, seed=1)[0]
    assert (grade.score, grade.reasons) == (0.5, ["on the GPU: line 6: RuntimeError: out of registers"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_honest_kernel_on_a_real_gpu():
    with KernelGrader(workers=1, gpu=True) as grader:
        assert grader.grade([block(HONEST)], TASK)[0].score == 1.0


def test_inputs_differ_between_graders_and_expected_values_do_not_leak():
    first, second = KernelGrader(workers=1), KernelGrader(workers=1)
    one, two = (g._test_cases(TASK, 0) for g in (first, second))
    assert one.blob != two.blob
    assert one.cases[0].expected[0].numpy().tobytes() not in one.blob
    assert torch.equal(first._test_cases(TASK, 0).cases[0].inputs[0], one.cases[0].inputs[0])

TELLING = HEAD + """C = tl.constexpr(64)

@triton.jit
def k(x_ptr, y_ptr, out_ptr, n, B: tl.constexpr, TEXT: tl.constexpr = "%s"):
    at = tl.program_id(0) * B + tl.arange(0, B)
    mask = at < n
    if CONDITION:
        tl.store(out_ptr + at, 0.0, mask=mask)
    else:
        tl.store(out_ptr + at, tl.load(x_ptr + at, mask=mask) + tl.load(y_ptr + at, mask=mask), mask=mask)

def add(x, y):
    out = torch.empty_like(x)
    k[(triton.cdiv(x.numel(), 64),)](x, y, out, x.numel(), B=64)
    return out
"""


@pytest.mark.parametrize("condition, score", [
    ("B != 64", 1.0),
    ('f"{at.shape[0]}" == "64"', 0.2),
    ('f"{at.numel}" == "64"', 0.2),
    ('f"{C}" == "64"', 0.2),
    ('f"{B:>5}" == "64"', 0.2),
    ('"%s" % at.numel == "64"', 0.2),
    ('TEXT % at.numel == "64"', 0.5),
    ('TEXT % C == "64"', 0.5),
    ('TEXT % (1,) != "1"', 0.5),
    ('"{}".format(at.numel) == "64"', 0.2),
])  # fmt: skip
def test_no_text_tells_the_run_from_the_compiler(grader, condition, score):
    """Each of them is true where it is compiled and false where it is interpreted: the kernel would store zeros on a GPU."""
    assert grader.grade([block(TELLING.replace("CONDITION", condition))], TASK)[0].score == score


NOISY = HEAD + """NAME = 2.0

@triton.jit
def k(x_ptr, out_ptr, n: "i32", C: tl.constexpr, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < n) * NAME, mask=at < n)

def add(x, y):
    out = torch.empty_like(x)
    for i in range(40):
        k[(1,)](x, out, x.numel(), i, B=16)
    return out
"""


def test_many_long_refusals_are_refusals(grader):
    """A name of 200 letters that take 12 bytes each in the notes, refused in 40 launches."""
    grade = grader.grade([block(NOISY.replace("NAME", "\U00020000" * 200))], TASK)[0]
    assert (grade.score, grade.stage) == (0.2, "compile") and "does not compile" in grade.reasons[0], grade
    assert len(json.dumps(bounded("\U00020000" * 300))) <= 600 and bounded("x" * 500) == "x" * 500


def test_launches_without_a_verdict_do_not_compile_when_the_notes_are_full():
    program = extract(block(HONEST))
    outcome = Outcome(0, True, (), 0.0, 0.0, [{"compiled": 0}, {"launch": 1, "refused": "1|no"}, {"full": True}])
    first, second, third = verdicts_of(outcome, 3, program)
    assert first == "" and second == "does not compile: line 1: no" and third.startswith("does not compile")
    with pytest.raises(SandboxError, match="said nothing"):
        verdicts_of(Outcome(0, True, (), 0.0, 0.0, outcome.notes[:2]), 3, program)


def test_a_line_number_of_five_thousand_digits_is_none():
    assert spoken(extract(block(HONEST)), "9" * 5000 + "|x") == "x" and spoken(extract(block(HONEST)), "٣|x") == "line 3: x"


def test_what_is_no_string_is_no_answer(grader):
    grades = grader.grade([["a"], {"a": 1}, None, block(HONEST)], TASK)
    assert [grade.score for grade in grades] == [0.0, 0.0, 0.0, 1.0] and "not list" in grades[0].reasons[0]


def test_a_task_without_test_cases_costs_no_other_its_grade(grader):
    """Roots of numbers of both signs: no draw is finite, as happens to the root of x + 2.5 for some seeds."""
    task = KernelTask("root", torch.sqrt, [[(300,)]], entry="add", inputs={"x": "positive"})
    object.__setattr__(task, "inputs", {"x": "normal"})
    other, fine = grader.grade([block(HONEST.replace("add(x, y)", "add(x, y=None)")), block(HONEST)], [task, TASK])
    assert (other.score, other.stage, fine.score) == (None, "grader", 1.0) and "infinities or nan" in other.reasons[0]


def test_what_a_mistake_of_ours_raises_is_no_score_and_no_end(monkeypatch):
    with KernelGrader(workers=1) as grader:
        monkeypatch.setattr("rftlab.kernels.worker.judge", lambda *_: 1 / 0)
        grade = grader.grade([block(HONEST)], TASK)[0]
        assert (grade.score, grade.stage) == (None, "grader") and "ZeroDivisionError" in grade.reasons[0]
        monkeypatch.undo()
        assert grader.grade([block(HONEST)], TASK)[0].score == 1.0


MEAN = HEAD + """@triton.jit
def k(x_ptr, out_ptr, n, B: tl.constexpr):
    at = tl.arange(0, B)
    x = tl.load(x_ptr + tl.program_id(0) * n + at, mask=at < n, other=0.0)
    tl.store(out_ptr + tl.program_id(0), tl.sum(x, 0) / n.to(tl.float32))

def mean(x):
    out = torch.empty(x.shape[0])
    k[(x.shape[0],)](x, out, x.shape[1], B=64)
    return out
"""


@pytest.mark.parametrize("before, after, score", [
    ("", "", 0.2),
    ("out_ptr, n,", "out_ptr, n: tl.int32,", 1.0),
    ("@triton.jit", '@triton.jit(do_not_specialize=["n"])', 1.0),
    ("@triton.jit", "@triton.jit(do_not_specialize=[2])", 1.0),
    ("n.to(tl.float32)", "n", 1.0),
])  # fmt: skip
def test_a_one_is_a_constant_for_the_compiler(grader, before, after, score):
    task = KernelTask("mean", lambda x: x.mean(dim=-1), [[(5, 37)], [(3, 1)]], entry="mean")
    grade = grader.grade([block(MEAN.replace(before, after) if before else MEAN)], task)[0]
    assert grade.score == score and (score == 1.0 or "has no attribute 'to'" in grade.reasons[0]), grade


@pytest.mark.parametrize("expression, function", [
    ("libdevice.pow(x, 2)", torch.square),
    ("libdevice.pow(x, 2.0)", torch.square),
    ("tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)", torch.relu),
    ("tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.NONE)", torch.relu),
])  # fmt: skip
def test_functions_that_honest_kernels_use(grader, expression, function):
    kernel = KERNEL.replace("y_ptr, ", "").replace("tl.load(x_ptr + at, mask=mask) + tl.load(y_ptr + at, mask=mask)", expression)
    kernel = kernel.replace("    tl.store", "    x = tl.load(x_ptr + at, mask=mask)\n    tl.store")
    code = HEAD + "from triton.language.extra import libdevice\n" + kernel + ENTRY.replace("x, y, out", "x, out").replace("(x, y)", "(x)")
    grade = grader.grade([block(code)], KernelTask("one", function, [[(300,)], [(5, 7)]], entry="add"))[0]
    assert grade.score == 1.0, grade


ROWS = HEAD + """@triton.jit
def k(x_ptr, out_ptr, n, s0, s1, B: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, B)
    mask = at < n
    x = tl.load(x_ptr + row * s0 + at * s1, mask=mask, other=PADDING)
    VALUE

def NAME(x):
    out = torch.empty(SHAPE)
    k[(x.shape[0],)](x, out, LENGTH, STRIDES, B=128)
    return out
"""
SUM = ROWS.replace("VALUE", "tl.store(out_ptr + row, tl.sum(x, 0))").replace("SHAPE", "x.shape[0]").replace("PADDING", "0.0")
SOFTMAX = ROWS.replace("VALUE", "e = tl.where(mask, tl.exp(x - tl.max(x, 0)), 0.0)\n    tl.store(out_ptr + row * n + at, e / tl.sum(e, 0), mask=mask)")
SOFTMAX = SOFTMAX.replace("SHAPE", "x.shape").replace("LENGTH", "x.shape[1]").replace("STRIDES", "x.stride(0), x.stride(1)")


@pytest.mark.parametrize("name, code, score", [
    ("row_sum", SUM.replace("LENGTH", "x.shape[1]").replace("STRIDES", "x.stride(0), x.stride(1)"), 1.0),
    ("row_sum", SUM.replace("LENGTH", "x.stride(0)").replace("STRIDES", "x.stride(0), 1"), 0.6),  # adds up the gaps
    ("softmax", SOFTMAX.replace("PADDING", '-float("inf")'), 1.0),
    ("softmax", SOFTMAX.replace("PADDING", "0.0"), 0.6),  # exp(x - 0) is 0 for all of a row below -100
])  # fmt: skip
def test_gaps_and_rows_that_are_large_tell(grader, name, code, score):
    task = next(task for task in load_kernel_tasks("train") if task.name == name)
    grade = grader.grade([block(code.replace("NAME", name))], task)[0]
    assert grade.score == score, grade


FLIP = HEAD + """@triton.jit
def k(x_ptr, out_ptr, tmp_ptr, n, B: tl.constexpr):
    at = tl.arange(0, B)
    mask = at < n
    x = tl.load(x_ptr + at, mask=mask, other=0.0)
    FIRST
    SECOND

def flip(x):
    out, tmp = torch.empty_like(x), torch.empty_like(x)
    k[(1,)](x, out, tmp, x.numel(), B=512)
    return out
"""


@pytest.mark.parametrize("first, second", [
    ("tl.store(out_ptr + at, 0.0 * x, mask=mask)", "tl.store(out_ptr + n - 1 - at, x, mask=mask)"),
    ("tl.store(tmp_ptr + at, x, mask=mask)", "tl.store(out_ptr + at, tl.atomic_add(tmp_ptr + n - 1 - at, x * 0.0, mask=mask), mask=mask)"),
])  # fmt: skip
def test_lanes_of_one_program_that_write_after_another_race(grader, first, second):
    task = KernelTask("flip", lambda x: x.flip(0), [[(300,)], [(1,)], [(129,)]], entry="flip")
    codes = [FLIP.replace("FIRST", first).replace("SECOND", f"{barrier}{second}") for barrier in ("", "tl.debug_barrier()\n    ")]
    racy, fine = grader.grade([block(code) for code in codes], task)
    assert (racy.score, fine.score) == (0.6, 1.0) and "writes them in different lanes" in racy.reasons[0], racy
