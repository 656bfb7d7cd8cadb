"""Strict nbval is strict: stored results are changed, and it must notice (mutation tests)."""
import inspect
import os
import re
import shutil
import subprocess
import sys
import time

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook, new_output
from nbval import kernel as nbval_kernel
from nbval import plugin as nbval_plugin

import conftest
from rftlab.notebooks import KERNELSPEC, ROOT, course_notebooks

SOURCES = ["loss, steps = 0.5, 30", "print(f'loss {loss:.4f} after {steps} steps')", "loss * 2", "loss;", "_"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A small notebook with stored outputs, alone in a folder."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in SOURCES], metadata={"kernelspec": dict(KERNELSPEC)})
    NotebookClient(notebook, kernel_name="python3").execute()
    path = tmp_path_factory.mktemp("recorded") / "small.ipynb"
    nbformat.write(notebook, path)
    return path


def nbval(folder, *options):
    """Run nbval with this repository's conftest on the notebooks of a folder elsewhere."""
    shutil.copy(ROOT / "conftest.py", folder)
    (folder / "pytest.ini").write_text("[pytest]\n")  # pytest looks no further for settings
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-rA",
               "--nbval-current-env", *(options or ["--nbval"]), str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)


def changed(recorded, target, change=lambda cells: None):
    """Write a copy of the notebook after change(cells)."""
    notebook = nbformat.read(recorded, as_version=4)
    change([cell for cell in notebook.cells if cell.cell_type == "code"])
    nbformat.write(notebook, target)


def slug(name):
    return re.sub(r"\W+", "-", name)


def replace_text(index, old, new):
    def change(cells):
        output = cells[index].outputs[0]
        holder, key = (output, "text") if "text" in output else (output["data"], "text/plain")
        assert old in holder[key]
        holder[key] = holder[key].replace(old, new)
    return change


MUTATIONS = {
    "float by 50 %": replace_text(1, "0.5000", "0.7500"),
    "float by 3 %": replace_text(1, "0.5000", "0.5150"),
    "result by 50 %": replace_text(2, "1.0", "1.5"),
    "integer by 1": replace_text(1, "30", "31"),
    "word": replace_text(1, "after", "before"),
    "one number more": replace_text(1, "0.5000", "0.5000 0.5000"),
    "outputs stripped": lambda cells: [cell.update(outputs=[]) for cell in cells],
    "stripped and unrun": lambda cells: [cell.update(outputs=[], execution_count=None) for cell in cells],
    "unrun": lambda cells: cells[0].update(execution_count=None),
    "skip tag": lambda cells: cells[0].metadata.update(tags=["nbval-skip"]),
    "skip comment": lambda cells: cells[0].update(source="# NBVAL_SKIP\n" + cells[0].source),
    "ignored without the second tag": lambda cells: cells[1].metadata.update(tags=["nbval-ignore-output"]),
    "expected exception that never came": lambda cells: cells[1].metadata.update(tags=["raises-exception"]),
    "new error": lambda cells: cells[0].update(source=cells[0].source + "\n1 / 0"),
}


ALLOWED = {
    "nothing": lambda cells: None,
    "float by 1 %": replace_text(1, "0.5000", "0.5050"),
    "ignored with both tags": lambda cells: [cells[1].metadata.update(tags=["nbval-ignore-output", "rft-volatile"]),
                                             replace_text(1, "after", "before")(cells)],
    "warning on stderr": lambda cells: cells[1].outputs.insert(0, new_output("stream", name="stderr", text="pid 17, 3.5 s")),
}


@pytest.fixture(scope="module")
def failed_cells(recorded, tmp_path_factory):
    """{change: [numbers of the cells that failed]}, from one run of nbval over all changed copies."""
    folder = tmp_path_factory.mktemp("changed")
    for name, change in {**MUTATIONS, **ALLOWED}.items():
        changed(recorded, folder / f"{slug(name)}.ipynb", change)
    report = nbval(folder).stdout
    verdicts = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL) (\S+)\.ipynb::Cell (\d+)", report, re.MULTILINE)
    assert len(verdicts) == len(SOURCES) * len(MUTATIONS | ALLOWED), report
    return {name: [int(cell) for verdict, file, cell in verdicts if file == slug(name) and verdict != "PASSED"]
            for name in MUTATIONS | ALLOWED}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_changed_notebook_fails(name, failed_cells):
    assert failed_cells[name]


@pytest.mark.parametrize("name", ALLOWED)
def test_an_allowed_difference_passes(name, failed_cells):
    assert failed_cells[name] == []


def test_it_says_how_many_cells_were_compared(recorded):
    done = nbval(recorded.parent)
    assert done.returncode == 0, done.stdout
    assert "strict nbval: 5 cells run, 3 of them compared with stored results" in done.stdout


def test_a_dead_kernel_fails_within_seconds(recorded, tmp_path):
    begin = time.monotonic()
    changed(recorded, tmp_path / "dies.ipynb", lambda cells: cells[1].update(source="import os\nos._exit(1)"))
    done = nbval(tmp_path)
    assert done.returncode == 1 and "the kernel died in this cell" in done.stdout
    assert time.monotonic() - begin < 60, "plain nbval waits for the time-out of the cell, 2000 s"


def test_lax_mode_compares_nothing_and_demands_nothing(recorded, tmp_path):
    """On a GPU the numbers differ; there the notebooks' own assertions count."""
    changed(recorded, tmp_path / "other.ipynb", replace_text(1, "0.5000", "0.7500"))
    assert nbval(tmp_path, "--nbval-lax").returncode == 0


def first_float(cells):
    """Change the first stored float by half, in whichever cell it is."""
    for cell in cells:
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            continue
        for places in conftest.texts_by_kind(cell.outputs).values():
            for holder, key in places:
                number = conftest.FLOAT.search(holder[key])
                if number and float(number.group()) != 0:
                    new = f"{1.5 * float(number.group()):.6f}"
                    holder[key] = holder[key][:number.start()] + new + holder[key][number.end():]
                    return
    raise AssertionError("this notebook stores no float: nothing in it can be checked")


@pytest.mark.slow
def test_a_changed_chapter_fails(tmp_path):
    """The same on the shortest real chapter: one stored float off by half, everything else as committed."""
    chapters = course_notebooks()
    assert chapters, "there is no notebook to change"
    shortest = min(chapters, key=lambda path: path.stat().st_size)
    folder = tmp_path / "notebooks"  # beside links to what the notebook reads
    folder.mkdir()
    for name in ("rftlab", "data"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    changed(shortest, folder / shortest.name, first_float)
    done = nbval(folder)
    assert done.returncode == 1, done.stdout
    assert re.search(r"= 1 failed, \d+ passed", done.stdout), "only the changed cell may fail"


def test_nbval_still_has_what_conftest_replaces():
    assert nbval_plugin.IPyNbCell.compare_outputs is conftest.compare_outputs
    assert nbval_kernel.RunningKernel.await_reply is conftest.await_reply
    assert nbval_kernel.RunningKernel.execute_cell_input is conftest.execute_cell_input
    run = inspect.getsource(nbval_plugin.IPyNbCell.runtest)
    for call in ("kernel.execute_cell_input(", "kernel.await_reply(", "self.compare_outputs("):
        assert call in run, f"nbval no longer calls {call}...), so conftest.py replaces it in vain"
    assert {"get_message", "is_alive"} <= set(dir(nbval_kernel.RunningKernel))


@pytest.mark.parametrize("stored, new, same", [
    ("loss 0.50", "loss 0.505", True),
    ("loss 0.50", "loss 0.52", False),
    ("loss 0.50", "gain 0.50", False),
    ("30 steps", "31 steps", False),
    ("0.0", "0.0000001", True),
    ("0.0", "0.001", False),
    ("1e-3", "1.01e-3", True),
    ("-0.50", "0.50", False),
    ("2.00x", "2.01x", True),
    ("version 1.2.3", "version 1.2.4", False),
    ("nan", "0.5", False),
    (" 9.99 |", "10.01 |", True),
    ("0.5\n0.5", "0.5 0.5", False),
    ("[0.10, 0.20]", "[0.10]", False),
])
def test_tolerance(stored, new, same):
    assert conftest.same_but_for_floats(stored, new) is same
