"""Strict nbval is strict: stored results are changed, and it must notice (mutation tests)."""
import copy
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
from rftlab.notebooks import KERNELSPEC, KERNEL_START_TIMEOUT, ROOT, course_notebooks

LINE, VALUE = "print(f'loss {1 / 2:.4f} after {15 * 2} steps')", "1 / 2 * 2"


def change_text(old, new):
    def change(cell):
        output = cell.outputs[0]
        holder, key = (output, "text") if "text" in output else (output["data"], "text/plain")
        assert old in holder[key]
        holder[key] = holder[key].replace(old, new)
    return change


def change_tags(*tags):
    return lambda cell: cell.metadata.update(tags=list(tags))


# name: (source of the cell, what is changed after it was recorded, whether strict nbval has to fail it)
CASES = {
    "untouched": (LINE, lambda cell: None, False),
    "untouched value": (VALUE, lambda cell: None, False),
    "semicolon shows nothing": (VALUE + ";", lambda cell: None, False),
    "float by 50 %": (LINE, change_text("0.5000", "0.7500"), True),
    "float by 3 %": (LINE, change_text("0.5000", "0.5150"), True),
    "float by 1 %": (LINE, change_text("0.5000", "0.5050"), False),
    "value by 50 %": (VALUE, change_text("1.0", "1.5"), True),
    "integer by 1": (LINE, change_text("30", "31"), True),
    "word": (LINE, change_text("after", "before"), True),
    "one number more": (LINE, change_text("0.5000", "0.5000 0.5000"), True),
    "outputs stripped": (LINE, lambda cell: cell.update(outputs=[]), True),
    "stripped and unrun": (LINE, lambda cell: cell.update(outputs=[], execution_count=None), True),
    "unrun": ("x = 1", lambda cell: cell.update(execution_count=None), True),
    "skip tag": (LINE, change_tags("nbval-skip"), True),
    "skip comment": (LINE, lambda cell: cell.update(source="# NBVAL_SKIP\n" + LINE), True),
    "ignored without the second tag": (LINE, change_tags("nbval-ignore-output"), True),
    "ignored with both tags": (LINE, lambda cell: [change_tags("nbval-ignore-output", "rft-volatile")(cell),
                                                   change_text("after", "before")(cell)], False),
    "expected exception that never came": (LINE, change_tags("raises-exception"), True),
    "new error": ("x = 1", lambda cell: cell.update(source="1 / 0"), True),
    "stderr": (LINE, lambda cell: cell.outputs.insert(0, new_output("stream", name="stderr", text="pid 17, 3.5 s")), False),
}
COMPARED = 10  # two untouched, the seven changed texts, and the one with stderr; nothing is compared in the other cells


@pytest.fixture(scope="module")
def recorded():
    """A notebook of the cells of CASES, run and stored, none changed yet."""
    notebook = new_notebook(cells=[new_code_cell(source) for source, _, _ in CASES.values()],
                            metadata={"kernelspec": dict(KERNELSPEC)})
    NotebookClient(notebook, kernel_name="python3", startup_timeout=KERNEL_START_TIMEOUT).execute()
    return notebook


def nbval(folder, *options):
    """Run nbval with this repository's conftest on the notebooks of a folder elsewhere."""
    shutil.copy(ROOT / "conftest.py", folder)
    (folder / "pytest.ini").write_text("[pytest]\n")  # pytest looks no further for settings
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-rA", "--nbval-current-env",
               f"--nbval-kernel-startup-timeout={KERNEL_START_TIMEOUT}", *(options or ["--nbval"]), str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)


def write(notebook, path, changes=()):
    """Write a copy of the notebook in which change(cell) was done to each (number, change)."""
    copied = copy.deepcopy(notebook)
    for number, change in changes:
        change(copied.cells[number])
    nbformat.write(copied, path)


@pytest.fixture(scope="module")
def changed(recorded, tmp_path_factory):
    """({name of a case: PASSED or FAILED}, the whole report) of nbval on the notebook with every cell changed."""
    folder = tmp_path_factory.mktemp("changed")
    write(recorded, folder / "changed.ipynb", enumerate(change for _, change, _ in CASES.values()))
    report = nbval(folder).stdout
    verdicts = {int(number): verdict for verdict, number in re.findall(r"^([A-Z]+) changed\.ipynb::Cell (\d+)", report, re.MULTILINE)}
    assert len(verdicts) == len(CASES), report
    return {name: verdicts[number] for number, name in enumerate(CASES)}, report


@pytest.mark.parametrize("name", CASES)
def test_a_changed_cell_fails_and_an_allowed_difference_passes(name, changed):
    assert changed[0][name] == ("FAILED" if CASES[name][2] else "PASSED"), changed[1]


def test_it_says_how_many_cells_were_compared(changed):
    found = re.search(r"strict nbval: (\d+) cells run, (\d+) of them compared with stored results", changed[1])
    assert [int(number) for number in found.groups()] == [len(CASES), COMPARED]


def test_the_recorded_notebook_passes(recorded, tmp_path):
    write(recorded, tmp_path / "untouched.ipynb")
    done = nbval(tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(rf"=+ {len(CASES)} passed in .* =+$", done.stdout.strip())


def test_a_dead_kernel_fails_within_seconds(tmp_path):
    dying = [new_code_cell("import os, time\ntime.sleep(1)\nos._exit(1)", execution_count=1), new_code_cell("2", execution_count=2)]
    write(new_notebook(cells=dying), tmp_path / "dies.ipynb")
    begin = time.monotonic()
    done = nbval(tmp_path)
    assert done.returncode == 1 and "the kernel died in this cell" in done.stdout
    assert "2 failed" in done.stdout
    assert time.monotonic() - begin < 120, "plain nbval waits for the time-out of the cell, 2000 s"


def test_lax_mode_compares_nothing_and_demands_nothing(recorded, tmp_path):
    """On a GPU the numbers differ; there the notebooks' own assertions count."""
    write(recorded, tmp_path / "other.ipynb", [(0, change_text("0.5000", "0.7500")), (2, CASES["unrun"][1])])
    assert nbval(tmp_path, "--nbval-lax").returncode == 0


def first_float(notebook):
    """(number of the first cell with a stored, compared float, what changes that float by half)."""
    def change(cell):
        for places in conftest.texts_by_kind(cell.get("outputs", [])).values():
            for holder, key in places:
                found = conftest.FLOAT.search(holder[key])
                if found and float(found.group()) != 0:
                    holder[key] = f"{holder[key][:found.start()]}{1.5 * float(found.group()):.6f}{holder[key][found.end():]}"
                    return True

    for number, cell in enumerate(notebook.cells):
        if "nbval-ignore-output" not in cell.metadata.get("tags", []) and change(copy.deepcopy(cell)):
            return number, change
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
    notebook = nbformat.read(shortest, as_version=4)
    write(notebook, folder / shortest.name, [first_float(notebook)])
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
