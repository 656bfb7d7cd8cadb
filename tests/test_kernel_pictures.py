"""The trace sees what a kernel touches, the pictures show it, and kernels compile in a process of their own."""
import subprocess
import sys
import textwrap

import pytest

from rftlab.kernels import trace
from rftlab.notebooks import ROOT

HEAD = """
import os
os.environ["TRITON_INTERPRET"] = "1"
import matplotlib
matplotlib.use("agg")
import numpy as np, torch, triton, triton.language as tl
from rftlab.kernels import offline, pictures, trace

@triton.jit
def double(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + i, 2 * tl.load(x_ptr + i, mask=i < n), mask=i < n)

TYPES = {"x_ptr": "*fp32", "out_ptr": "*fp32", "n": "i32", "BLOCK": 128}
x, out = torch.arange(10.0), torch.zeros(10)
"""


def interpreted(tmp_path, code: str) -> str:
    """What a program prints in which Triton interprets; kernels need their source in a file."""
    file = tmp_path / "program.py"
    file.write_text(HEAD + textwrap.dedent(code))
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=300, cwd=ROOT,
                          env={"PYTHONPATH": str(ROOT), "PATH": "", "MPLCONFIGDIR": str(tmp_path), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_trace_names_what_each_program_touches(tmp_path):
    assert interpreted(tmp_path, """
        with trace.watch(x=x, out=out) as seen:
            double[(3,)](x, out, 10, BLOCK=4)
        print(seen)
        print(seen.outside(), seen.toucher("out", "store").tolist(), len(seen.accesses))
        double[(3,)](x, out, 10, BLOCK=4)
        print(len(seen.accesses), out.tolist() == (2 * x).tolist())
    """).splitlines() == [
        "program 0   load x[0:4]   store out[0:4]", "program 1   load x[4:8]   store out[4:8]",
        "program 2   load x[8:10] (2 masked off)   store out[8:10] (2 masked off)",
        "0 [0, 0, 0, 0, 1, 1, 1, 1, 2, 2] 6", "6 True"]


def test_strays_races_atomics_and_idle_lanes_show(tmp_path):
    printed = interpreted(tmp_path, """
        @triton.jit
        def faulty(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
            i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
            total = tl.sum(tl.load(x_ptr + i, mask=i < n), axis=0)
            tl.store(out_ptr + 0, total)
            tl.atomic_add(out_ptr + 1, total)
            tl.store(out_ptr + 3 + i, 0.0)

        room = torch.zeros(64)
        out = room[16:22]
        with trace.watch(undefined=float("nan"), x=x, out=out) as seen:
            faulty[(3, 1)](x, out, 10, BLOCK=4)
        print(seen.outside(), seen.toucher("out", "store").tolist(), seen.toucher("out", "atomic").tolist(), out[0].item())
        figure = pictures.matrices(seen)
        print(len(figure.axes), [ax.get_title(loc="left") for ax in figure.axes])
    """).splitlines()
    assert printed == ["9 [-2, -1, -1, 0, 0, 0] [-1, -2, -1, -1, -1, -1] nan", "3 ['load x', 'store out', 'atomic out']"]


def test_the_pictures_show_every_lane(tmp_path):
    printed = interpreted(tmp_path, """
        with trace.watch(x=x, out=out) as seen:
            double[(3,)](x, out, 10, BLOCK=4)
        ax = pictures.lanes(seen, title="A title")
        hollow = [patch for patch in ax.patches if patch.get_facecolor()[3] == 0]
        print(len(ax.patches), len(hollow), ax.get_title(loc="left"), [label.get_text() for label in ax.get_yticklabels()])
        try:
            with trace.watch(x=x.view(2, 5)) as flat:
                double[(3,)](x, out, 10, BLOCK=4)
            pictures.lanes(flat)
        except ValueError as error:
            print(error)
        figure = pictures.matrices(flat, program=1)
        print([text.get_text() for text in figure.axes[0].texts])
    """).splitlines()
    assert printed[0] == "24 4 A title ['program 0', 'program 1', 'program 2']"
    assert "use matrices()" in printed[1]
    assert printed[2] == "['0', '0', '0', '0']"


def test_errors_say_what_to_do(tmp_path):
    printed = interpreted(tmp_path, """
        for tensors in ({}, {"x": x.view(2, 5).T}):
            try:
                with trace.watch(**tensors):
                    pass
            except ValueError as error:
                print(error)
        try:
            offline.compile_kernel(double, {"x_ptr": "*fp32"})
        except ValueError as error:
            print(error)
    """).splitlines()
    assert "name the tensors" in printed[0] and "x is not a contiguous CPU tensor" in printed[1]
    assert "the kernel takes ['x_ptr', 'out_ptr', 'n', 'BLOCK']" in printed[2]


def test_a_kernel_with_helper_and_globals_compiles_although_triton_interprets_here(tmp_path):
    assert interpreted(tmp_path, """
        SLOPE = tl.constexpr(0.5)
        PLAIN = 7

        @triton.jit
        def leaky(x):
            return tl.where(x > 0, x, SLOPE * x)

        @triton.jit
        def activate(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
            i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
            tl.store(out_ptr + i, tl.sum(leaky(tl.load(x_ptr + i, mask=i < n, other=0.0)), axis=0), mask=i < n)

        @triton.jit
        def plain_global(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
            tl.store(out_ptr, PLAIN)

        stages = offline.compile_kernel(activate, TYPES)
        print(list(stages), "st.global" in stages["ptx"], ".target sm_80" in stages["ptx"])
        print(".target sm_90" in offline.compile_kernel(double, TYPES, target="sm_90")["ptx"])
        try:
            offline.compile_kernel(plain_global, TYPES)
        except offline.CompileError as error:
            print("PLAIN" in str(error))
    """).splitlines() == ["['ttir', 'ttgir', 'llir', 'ptx'] True True", "True", "True"]


def test_watching_needs_the_interpreter(monkeypatch):
    triton = pytest.importorskip("triton")
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"), trace.watch():
        pass


@pytest.mark.parametrize("cells, shape, text", [
    ([0, 1, 2], (5,), "[0:3]"), ([4], (5,), "[4]"), ([0, 2, 4], (5,), "[0:5:2]"), ([3, 4, 5, 6], (5,), "[3:5, 2 outside]"),
    ([7], (5,), "[1 outside]"), ([-1, 0], (5,), "[0, 1 outside]"), ([0, 1, 3, 4], (2, 3), "[0:2, 0:2]"),
    ([0, 4], (2, 3), "[2 elements]"), ([5, 5, 5], (2, 3), "[1, 2]"), ([0, 1, 4], (5,), "[0,1,4]"),
])
def test_offsets_are_written_as_slices(cells, shape, text):
    import numpy as np

    assert trace.region(np.array(cells), shape) == text
