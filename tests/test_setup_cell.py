"""The set-up cell where rftlab is not installed: inside a clone, on a hosted machine, and where nothing can be found."""
import os
import subprocess
import sys
import tempfile

import pytest

from rftlab.notebooks import ROOT, SETUP_CELL

# Forget an editable install, as on a machine that has none, and record pip calls instead of running them.
PRELUDE = """
import subprocess, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "").lower()]
def record(command, check):
    print("RUN", command[1:])
    sys.path.insert(0, {root!r})
subprocess.run = record
"""


@pytest.fixture
def elsewhere():
    """A folder that lies in no clone."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def run_cell(folder, **environment):
    program = PRELUDE.format(root=str(ROOT)) + SETUP_CELL
    clean = {name: value for name, value in os.environ.items() if name not in ("RFTLAB_REPO", "CUDA_VISIBLE_DEVICES")}
    return subprocess.run([sys.executable, "-I", "-c", program + "\nprint(os.environ['CUDA_VISIBLE_DEVICES'], rftlab.__file__)"],
                          cwd=folder, env={**clean, **environment}, capture_output=True, text=True, timeout=120)


def test_inside_a_clone_it_finds_the_package_above(tmp_path):
    for name in ("rftlab", "notebooks/solutions"):
        (tmp_path / "a clone" / name).mkdir(parents=True)
    (tmp_path / "a clone" / "rftlab" / "__init__.py").write_text("")
    done = run_cell(tmp_path / "a clone" / "notebooks" / "solutions")
    assert done.stdout.startswith("rftlab is ready\n0 "), done.stderr
    assert str(tmp_path) in done.stdout


def test_elsewhere_it_installs_from_the_address_and_keeps_the_platforms_own_packages(elsewhere):
    import importlib.metadata

    done = run_cell(elsewhere, RFTLAB_REPO="https://example.org/me/course", CUDA_VISIBLE_DEVICES="1")
    command = done.stdout.splitlines()[0]
    assert command.startswith("RUN ['-m', 'pip', 'install'"), done.stderr
    assert "'rftlab[train] @ git+https://example.org/me/course'" in command
    for name in ("torch", "numpy", "pillow"):
        assert f"'{name}=={importlib.metadata.version(name)}'" in command
    assert done.stdout.splitlines()[1] == "rftlab is ready"
    assert done.stdout.splitlines()[2].startswith("1 "), "a GPU that the reader chose stays chosen"


def test_where_nothing_is_found_it_says_what_to_do(elsewhere):
    done = run_cell(elsewhere)
    assert done.returncode != 0
    for hint in ("make lab", "RFTLAB_REPO", "Kaggle"):
        assert hint in done.stderr.splitlines()[-1]
