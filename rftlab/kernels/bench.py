"""Speed of the grader beside the usual way, a fresh Python process for each completion: `python -m rftlab bench grader`.

Every completion differs from all others in a name, so that nothing is remembered and each is compiled anew. The task is the
vector sum on three small cases. The peer imports torch and Triton, interprets the program, compares with `allclose`, and in the
second row compiles it in another process; it locks nothing down and checks nothing else.
"""

import itertools
import os
import statistics
import subprocess
import sys
import time

from rftlab.bench import row
from rftlab.kernels.grader import KernelGrader
from rftlab.kernels.tasks import KernelTask

PROGRAM = '''import torch
import triton
import triton.language as tl


@triton.jit
def add_kernel_NUMBER(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    x = tl.load(x_ptr + at, mask=mask)
    y = tl.load(y_ptr + at, mask=mask)
    tl.store(out_ptr + at, x + y, mask=mask)


def add(x, y):
    out = torch.empty_like(x)
    add_kernel_NUMBER[(triton.cdiv(x.numel(), 256),)](x, y, out, x.numel(), BLOCK=256)
    return out
'''
PEER_RUNS = """
import sys, types, linecache, torch
code = sys.stdin.read()
linecache.cache["<program>"] = (len(code), None, code.splitlines(True), "<program>")
module = types.ModuleType("program")
exec(compile(code, "<program>", "exec"), module.__dict__)
for shape in ((300,), (1,), (7, 33)):
    x, y = torch.randn(shape), torch.randn(shape)
    assert torch.allclose(module.add(x, y), x + y)
"""
PEER_COMPILES = """
import sys, types, linecache
from rftlab.kernels import offline
code = sys.stdin.read()
linecache.cache["<program>"] = (len(code), None, code.splitlines(True), "<program>")
module = types.ModuleType("program")
exec(compile(code, "<program>", "exec"), module.__dict__)
kernel = next(value for name, value in vars(module).items() if name.startswith("add_kernel"))
offline.stages(kernel, {"x_ptr": "*fp32", "y_ptr": "*fp32", "out_ptr": "*fp32", "n": "i32", "BLOCK": 256}, "sm_80")
"""
BATCH = 50  # completions between two runs of the peer
GROWTH = 2000  # completions over which memory must stay flat


def add(x, y):
    return x + y


def rows(runs: int = 5) -> list[dict]:
    """The table of the bench: see `rftlab.bench.row`."""
    task = KernelTask("add", add, [[(300,), (300,)], [(1,), (1,)], [(7, 33), (7, 33)]])
    numbers = itertools.count()
    found = []
    for name, target, peer in (("grades_per_s", None, [PEER_RUNS]), ("grades_per_s_compiled", "sm_80", [PEER_RUNS, PEER_COMPILES])):
        with KernelGrader(workers=2, target=target) as grader:
            grade(grader, task, numbers, 10)
            ours, theirs = [], []
            for _ in range(runs):
                ours.append(grade(grader, task, numbers, BATCH))
                theirs.append(fresh_process(peer, next(numbers)))
            found.append(row(name, "completions/s", statistics.median(ours), "a fresh process each", statistics.median(theirs), None, runs, True))
            if target is None:
                share = grader.lock_seconds / grader.run_seconds
                before = memory_of(grader)
                grade(grader, task, numbers, GROWTH)
                grown = max(0.0, (memory_of(grader) - before) / 2**20)
    found.append(row("lockdown_share", "share of a child's time", share, "at most", 0.1, None, runs, False))
    found.append(row("grader_memory_growth", f"MB over {GROWTH} completions, +1", grown + 1, "at most", 17, None, 1, False))
    return found


def grade(grader: KernelGrader, task: KernelTask, numbers, count: int) -> float:
    """Grade `count` new completions; returns how many a second. Raises RuntimeError if one is not paid in full."""
    completions = [f"```python\n{PROGRAM.replace('NUMBER', str(next(numbers)))}```" for _ in range(count)]
    start = time.perf_counter()
    grades = grader.grade(completions, task)
    seconds = time.perf_counter() - start
    if any(one.score != 1.0 for one in grades):
        raise RuntimeError(f"the bench's own program got {next(one for one in grades if one.score != 1.0)}")
    return count / seconds


def fresh_process(scripts: list[str], number: int) -> float:
    """The peer: one completion in a new process (or two), as completions a second."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    start = time.perf_counter()
    for script in scripts:
        environment["TRITON_INTERPRET"] = "1" if script is PEER_RUNS else "0"
        subprocess.run([sys.executable, "-c", script], input=PROGRAM.replace("NUMBER", str(number)), text=True, check=True, env=environment)
    return 1 / (time.perf_counter() - start)


def memory_of(grader: KernelGrader) -> int:
    """Bytes that this process and the grader's zygotes hold."""
    total = 0
    for process in [os.getpid(), *(p for worker in grader._free for p in worker.processes())]:
        with open(f"/proc/{process}/statm") as file:
            total += int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total
