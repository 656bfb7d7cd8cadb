"""Running and recording notebooks: what is kept, what is shown, and what a failing cell does."""
import os
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from rftlab import notebooks
from rftlab.notebooks import NotebookRun


def write(path, *cells, **metadata):
    nbformat.write(new_notebook(cells=list(cells), metadata=metadata), path)
    return path


def test_record_stores_outputs_and_nothing_that_changes_between_runs(tmp_path):
    path = write(tmp_path / "01_a.ipynb", new_markdown_cell("# A"),
                 new_code_cell("import os\nprint(os.environ['RFT_PROFILE'])", metadata={"tags": ["headline"], "collapsed": True}),
                 new_code_cell("1 + 1"), widgets={"state": {}}, accelerator="GPU")
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    notebooks.record(path)
    first = path.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ids
    assert notebook.cells[1].outputs[0].text == "ci\n" and notebook.cells[1].metadata == {"tags": ["headline"]}
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2]
    assert notebook.metadata == {"kernelspec": notebooks.KERNELSPEC, "language_info": {"name": "python"}, "accelerator": "GPU"}
    notebooks.record(path)
    assert path.read_bytes() == first, "recording twice changes nothing"


def test_record_leaves_a_failing_notebook_alone(tmp_path):
    path = write(tmp_path / "01_a.ipynb", new_code_cell("x = 1"), new_code_cell("raise ValueError('no such task')"))
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="01_a.ipynb was not recorded; it failed in code cell 2: ValueError: no such task"):
        notebooks.record(path)
    assert path.read_bytes() == before


def test_run_all_goes_on_after_a_failure_and_keeps_the_copies(tmp_path):
    good = write(tmp_path / "01_good.ipynb", new_code_cell("print('a')\nprint('accuracy 0.05 -> 0.61')", metadata={"tags": ["headline"]}))
    bad = write(tmp_path / "00_bad.ipynb", new_code_cell("import nothing_such"))
    dead = write(tmp_path / "02_dead.ipynb", new_code_cell("import os; os._exit(1)"))
    runs = notebooks.run_all([bad, good, dead], out=tmp_path / "out")
    assert [(run.name, run.headline, run.error) for run in runs] == [
        ("00_bad", "", "code cell 1: ModuleNotFoundError: No module named 'nothing_such'"),
        ("01_good", "accuracy 0.05 -> 0.61", ""),
        ("02_dead", "", "code cell 1: the kernel died (out of memory?)")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00_bad.ipynb", "01_good.ipynb", "02_dead.ipynb"]
    assert nbformat.read(tmp_path / "out" / "00_bad.ipynb", as_version=4).cells[0].outputs[0].ename == "ModuleNotFoundError"
    assert not nbformat.read(good, as_version=4).cells[0].outputs, "the notebook itself is not touched"


def test_summary_fits_a_screen():
    runs = [NotebookRun("00_start_here", 31.4, "all green", ""), NotebookRun("01_rl_basics", 62.0, "", ""),
            NotebookRun("02_grpo", 3.0, "", "code cell 2: ValueError: " + "x" * 200)]
    lines = notebooks.summary(runs).splitlines()
    assert lines[:2] == ["00_start_here    0:31  all green", "01_rl_basics     1:02  ran"]
    assert lines[2].startswith("02_grpo          0:03  FAILED in code cell 2: ValueError: xxx") and lines[2].endswith("...")
    assert lines[-1] == "3 notebooks in 1:36, 1 failed"
    assert all(len(line) <= 100 for line in lines)


def test_headline_is_the_last_line_of_the_tagged_cell():
    cell = new_code_cell("x", metadata={"tags": ["headline"]}, outputs=[
        new_output("stream", name="stdout", text="first\n\nsecond  \n\n"), new_output("display_data", {"image/png": "AAAA"})])
    assert notebooks.headline(new_notebook(cells=[new_markdown_cell("# A"), cell])) == "second"
    cell.outputs.append(new_output("execute_result", {"text/plain": "0.5"}, execution_count=1))
    assert notebooks.headline(new_notebook(cells=[cell])) == "0.5"
    assert notebooks.headline(new_notebook(cells=[new_code_cell("x")])) == ""


def test_a_notebook_is_found_by_number_or_path(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    first, second = (write(tmp_path / "notebooks" / name, new_code_cell("1")) for name in ("01_a.ipynb", "02_b.ipynb"))
    assert notebooks.course_notebooks() == [first, second]
    assert notebooks.find_notebook("02") == second and notebooks.find_notebook(str(first)) == first
    for wrong in ("03", "0", str(tmp_path / "none.ipynb")):
        with pytest.raises(FileNotFoundError, match="give a path or a number out of 01, 02"):
            notebooks.find_notebook(wrong)


def test_main_ends_with_one_when_a_notebook_fails(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(notebooks, "run_all", lambda paths: [NotebookRun("01_a", 1.0, "", "code cell 1: ValueError: no")])
    assert notebooks.main(["course"]) == 1
    assert "Executed copies: build" in capsys.readouterr().out


def test_main_records_by_number_and_says_what_failed(tmp_path, monkeypatch, capsys):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    write(tmp_path / "notebooks" / "01_a.ipynb", new_code_cell("1"))
    monkeypatch.setattr(notebooks, "record", lambda path: None)
    assert notebooks.main(["record", "01"]) == 0
    assert "recorded" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="'07' names 0 notebooks"):
        notebooks.main(["record", "07"])
    with pytest.raises(SystemExit):
        notebooks.main(["record"])
    assert "make record NB=01" in capsys.readouterr().err


def test_lab_opens_the_first_notebook_and_writes_nothing_to_the_home_folder(monkeypatch):
    called = {}

    def run(command):
        called.update(command=command, config=os.environ["JUPYTER_CONFIG_DIR"], python=os.environ["IPYTHONDIR"])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert notebooks.main(["lab"]) == 0
    assert any(argument.endswith("/lab/tree/notebooks/00_start_here.ipynb") for argument in called["command"])
    assert Path(called["config"]).is_relative_to(notebooks.ROOT) and Path(called["python"]).is_relative_to(notebooks.ROOT)
