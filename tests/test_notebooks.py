"""Static checks of every notebook: no kernel, milliseconds. Strict nbval runs them (`make test`)."""
import copy
import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import notebook_rules as rules
from rftlab.notebooks import KERNELSPEC, ROOT, SETUP_CELL, course_notebooks

# The course in reading order. Chapters may arrive in any order; those in WRITTEN may not vanish again.
COURSE = ["00_start_here", "01_rl_basics", "02_grpo_from_scratch", "03_rewards_and_hacking", "04_rft_vs_sft", "05_where_rft_wins",
          "06_lora", "07_turbo_lora", "08_triton_kernels", "09_kernel_rewards", "10_kernel_grpo", "11_unsloth_workflow",
          "12_debugging_rft", "13_capstone", "A1_deck_errata"]
WRITTEN = {"00_start_here", "01_rl_basics", "02_grpo_from_scratch", "04_rft_vs_sft", "06_lora", "07_turbo_lora", "08_triton_kernels", "09_kernel_rewards",
           "10_kernel_grpo", "11_unsloth_workflow", "A1_deck_errata"}
NOTEBOOKS = course_notebooks()
CHAPTERS = [path for path in NOTEBOOKS if not path.stem.startswith("A")]
APPENDICES = [path for path in NOTEBOOKS if path.stem.startswith("A")]
ALL = sorted((ROOT / "notebooks").rglob("*.ipynb"))


def faults(rule, notebook):
    return list(dict.fromkeys(rule(notebook)))


def test_the_chapters_are_those_of_the_course():
    names = {path.stem for path in NOTEBOOKS}
    assert COURSE == sorted(COURSE), "the numbers are the reading order"
    assert names <= set(COURSE), "a chapter that the course does not know"
    assert WRITTEN <= names, "a chapter is missing"
    assert {path.name for path in ALL if path.parent.name == "notebooks"} == {path.name for path in NOTEBOOKS}, \
        "a notebook beside the chapters would be run by nobody"


@pytest.mark.parametrize("rule", rules.FOR_ALL, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_rule(path, rule):
    found = faults(rule, rules.read(path))
    assert not found, "\n".join([path.name, *found])


@pytest.mark.parametrize("rule", rules.FOR_CHAPTERS, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_rule(path, rule):
    found = faults(rule, rules.read(path))
    assert not found, "\n".join([path.name, *found])


@pytest.mark.parametrize("rule", rules.FOR_APPENDICES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", APPENDICES, ids=lambda path: path.stem)
def test_appendix_rule(path, rule):
    found = faults(rule, rules.read(path))
    assert not found, "\n".join([path.name, *found])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_readme_lists_it(path):
    assert f"notebooks/{path.name}" in (ROOT / "README.md").read_text(encoding="utf-8")


# ---- the rules themselves: a notebook that follows all of them, and one planted fault each ----

def good_notebook():
    def run(source, text="", **metadata):
        outputs = [new_output("stream", name="stdout", text=text)] if text else []
        return new_code_cell(source, outputs=outputs, metadata=metadata)

    cells = [new_markdown_cell("# Title\n\nThe question?"), new_markdown_cell("10 minutes. What is *not* covered: much."),
             run(SETUP_CELL, "rftlab is ready\n"), run("import math\nfrom rftlab import notebooks")]
    for number in range(19):
        cells += [new_markdown_cell("Words, and [a link](https://example.org)."),
                  run(f"print({number} / 2)", f"{number / 2}\n")]
    cells[4].source = "## Predict, run, explain\n\nSee [the tests](../tests/notebook_rules.py) and `rftlab/notebooks.py`."
    cells[5].metadata["tags"] = ["headline"]
    for cell in cells[7:13:2]:
        cell.source = "def stub():\n    raise NotImplementedError\n\nprint(stub)"
    cells.append(new_markdown_cell("## Recap\n\n| metric | healthy | sick |\n|---|---|---|\n\n## Exercises\n\n## Questionnaire\n\n## References"))
    notebook = new_notebook(cells=cells, metadata={"kernelspec": dict(KERNELSPEC)})
    for number, cell in enumerate(rules.code_cells(notebook), 1):
        cell.execution_count = number
    return notebook


@pytest.mark.parametrize("rule", rules.FOR_ALL + rules.FOR_CHAPTERS, ids=lambda rule: rule.__name__)
def test_a_good_notebook_passes(rule):
    assert not faults(rule, good_notebook())


def plant(change):
    notebook = copy.deepcopy(good_notebook())
    change(notebook, rules.code_cells(notebook))
    return notebook


def _source(index, text):
    return lambda nb, code: code[index].update(source=text)


def _tag(index, *names):
    return lambda nb, code: code[index].metadata.update(tags=list(names))


def _output(index, *outputs):
    return lambda nb, code: code[index].update(outputs=list(outputs))


def _cell(index, text):
    return lambda nb, code: nb.cells[index].update(source=text)


ERROR = new_output("error", ename="ValueError", evalue="no", traceback=[])
FIGURE = new_output("display_data", {"image/png": "AAAA", "text/plain": "<Figure size 640x480 with 1 Axes>"})
FAULTS = {
    "old format": (rules.format_is_current, lambda nb, code: nb.update(nbformat_minor=4), "expected 4.5"),
    "same id": (rules.format_is_current, lambda nb, code: code[1].update(id=code[0].id), "share an id"),
    "unrun": (rules.ran_from_a_fresh_kernel, lambda nb, code: code[3].update(execution_count=None), "None"),
    "out of order": (rules.ran_from_a_fresh_kernel, lambda nb, code: code[3].update(execution_count=9), "in order"),
    "error": (rules.outputs_are_clean, _output(3, ERROR), "raised an error"),
    "no error": (rules.outputs_are_clean, _tag(3, "raises-exception"), "raised nothing"),
    "stderr": (rules.outputs_are_clean, _output(3, new_output("stream", name="stderr", text="w")), "stderr"),
    "kernel": (rules.kernel_is_python3, lambda nb, code: nb.metadata.kernelspec.update(name="mine"), "python3"),
    "empty": (rules.code_is_plain, _source(5, "\n"), "empty"),
    "long": (rules.code_is_plain, _source(5, "x = 1\n" * 41), "41 lines"),
    "pip": (rules.code_is_plain, _source(5, "!pip install trl"), "installs"),
    "star": (rules.code_is_plain, _source(5, "from rftlab.notebooks import *"), "star"),
    "global": (rules.code_is_plain, _source(5, "def f():\n    global x\n    x = 1"), "global"),
    "path": (rules.nothing_leaks, _source(5, "open('/home/me/x')"), "a path"),
    "path in output": (rules.nothing_leaks, _output(5, new_output("stream", name="stdout", text="saved in /tmp/x")), "a path"),
    "token": (rules.nothing_leaks, _source(5, "token = 'hf_" + "a" * 30 + "'"), "a token"),
    "registry": (rules.nothing_leaks, _source(5, "# see pypi" ".org"), "registry"),
    "widgets": (rules.nothing_leaks, lambda nb, code: nb.metadata.update(widgets={}), "widget"),
    "import": (rules.rftlab_names_exist, _source(5, "from rftlab.notebooks import nothing_such"), "nothing_such"),
    "attribute": (rules.rftlab_names_exist, _source(5, "notebooks.nothing_such(1)"), "nothing_such"),
    "dotted": (rules.rftlab_names_exist, _source(5, "import rftlab\nrftlab.notebooks.nothing_such"), "nothing_such"),
    "opening": (rules.opens_with_the_four_cells, lambda nb, code: nb.cells.insert(1, code[5]), "open"),
    "title": (rules.opens_with_the_four_cells, _cell(0, "# No question"), "question"),
    "outline": (rules.opens_with_the_four_cells, _cell(1, "10 minutes"), "not covered"),
    "set-up": (rules.opens_with_the_four_cells, _cell(2, SETUP_CELL + "\n"), "set-up"),
    "sections": (rules.has_the_sections, _cell(-1, "## Recap"), "no section References"),
    "appendix": (rules.has_the_sections_of_an_appendix, _cell(-1, "## Recap"), "no section References"),
    "predict": (rules.has_the_sections, _cell(4, "predict"), "predict"),
    "healthy": (rules.has_the_sections, _cell(-1, "## Recap"), "healthy"),
    "few cells": (rules.has_the_right_size, lambda nb, code: nb.update(cells=nb.cells[:39]), "39 cells"),
    "all code": (rules.has_the_right_size, lambda nb, code: nb.cells.extend(code), "0.5 markdown"),
    "large": (rules.has_the_right_size, _output(5, new_output("stream", name="stdout", text="x" * 500_001)), "bytes"),
    "exercises": (rules.has_exercises, _source(3, "print(1)"), "2 exercise"),
    "silent": (rules.is_really_compared, lambda nb, code: [cell.update(outputs=[]) for cell in code[:9]], "compared result"),
    "figures": (rules.is_really_compared, lambda nb, code: [cell.update(outputs=[FIGURE]) for cell in code[:9]], "compared"),
    "ignored": (rules.is_really_compared, _tag(5, "nbval-ignore-output"), "rft-volatile"),
    "too many ignored": (rules.is_really_compared,
                         lambda nb, code: [cell.metadata.update(tags=["nbval-ignore-output", "rft-volatile"]) for cell in code[:5]],
                         "5 cells are not compared"),
    "skip": (rules.is_really_compared, _source(5, "# NBVAL_SKIP\nprint(1)"), "steers nbval"),
    "no headline": (rules.has_one_headline, _tag(2), "0 cells"),
    "mute headline": (rules.has_one_headline, _output(2), "1 cells"),
    "dead link": (rules.links_resolve, _cell(6, "[here](solutions/nothing_such.ipynb)"), "nothing_such"),
    "dead path": (rules.links_resolve, _cell(6, "`rftlab/nothing_such.py`"), "nothing_such"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name):
    rule, change, message = FAULTS[name]
    found = faults(rule, plant(change))
    assert found, f"{rule.__name__} missed it"
    assert message in "\n".join(found)


def test_the_setup_cell_is_found_out_of_a_clone_too():
    """It compiles, sets no path of its own, and asks nothing of a machine that has rftlab already."""
    assert len(SETUP_CELL.splitlines()) <= rules.MOST_LINES
    assert re.search(r"^print\(.rftlab is ready.\)$", SETUP_CELL, re.MULTILINE)
