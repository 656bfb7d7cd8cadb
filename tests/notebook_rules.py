"""The rules for a notebook of this course. Each takes a notebook and yields one sentence for each fault."""
import ast
import importlib
import json
import re
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from rftlab.notebooks import SETUP_CELL, headline

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = ("Recap", "Exercises", "Questionnaire", "References")
APPENDIX_SECTIONS = ("Recap", "References")
MOST_LINES, CELLS, MARKDOWN_PER_CODE, MOST_BYTES = 40, (40, 90), (0.8, 2.2), 500_000
EXERCISES, MOST_IGNORED, LEAST_CHECKED = (3, 5), 4, 0.6
FIGURE = re.compile(r"<Figure size \S+ with \d+ Axes>")
LEAKS = {
    "a path of one machine": re.compile(r"(?:^|[\s\"'(=`])(?:/(?:root|home|tmp|work|Users|mnt|opt)/|[A-Z]:\\)"),
    "a token": re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9-]{20,})"),
    "the host of a package registry": re.compile(r"py" r"pi\.org|pythonhosted\.org|registry\.npm" r"js"),
}


def read(path):
    """The notebook as it is on disk; nbformat.read would mend what the rules look for."""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def text_outputs(cell):
    """All text that a code cell put out, without pictures."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield value


def tree(cell):
    """The cell's syntax tree; IPython's magics and `!commands` become calls."""
    return ast.parse(TransformerManager().transform_cell(cell.source))


def markdown(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


# ---- rules for every notebook, solutions too ----

def format_is_current(notebook):
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        yield f"format {notebook.nbformat}.{notebook.nbformat_minor}, expected 4.5 (cells with ids)"
    ids = [cell.get("id") for cell in notebook.cells]
    if len(set(ids)) < len(ids):
        yield "two cells share an id"
        return  # validate() would give one of them another
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        yield f"not valid: {error.message}"


def ran_from_a_fresh_kernel(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts {counts}, expected 1 to {len(counts)} in order; record it: make record NB=.."


def outputs_are_clean(notebook):
    for number, cell in enumerate(code_cells(notebook), 1):
        raised = any(output.output_type == "error" for output in cell.outputs)
        if raised != ("raises-exception" in tags(cell)):
            yield f"code cell {number}: " + ("raised an error" if raised else "is tagged raises-exception and raised nothing")
        if any(output.output_type == "stream" and output.name == "stderr" for output in cell.outputs):
            yield f"code cell {number}: wrote to stderr; mend the warning or send progress elsewhere"


def kernel_is_python3(notebook):
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec is not python3"


def code_is_plain(notebook):
    for number, cell in enumerate(code_cells(notebook), 1):
        if not cell.source.strip():
            yield f"code cell {number}: empty"
        if len(cell.source.splitlines()) > MOST_LINES:
            yield f"code cell {number}: {len(cell.source.splitlines())} lines, at most {MOST_LINES}"
        if re.search(r"\bpip\b.*\binstall\b", cell.source) and cell.source != SETUP_CELL:
            yield f"code cell {number}: installs packages; only the set-up cell may"
        for node in ast.walk(tree(cell)):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                yield f"code cell {number}: star import from {node.module}"
            if isinstance(node, ast.Global):
                yield f"code cell {number}: global statement"


def nothing_leaks(notebook):
    if "widgets" in notebook.metadata:
        yield "holds widget state, which GitHub cannot render"
    for number, cell in enumerate(notebook.cells, 1):
        texts = [cell.source if cell.source != SETUP_CELL else ""]
        texts += text_outputs(cell) if cell.cell_type == "code" else []
        for what, pattern in LEAKS.items():
            if any(pattern.search(text) for text in texts):
                yield f"cell {number}: names {what}"


def rftlab_names_exist(notebook):
    """Every rftlab name that the code imports, or reads from an rftlab module, is there."""
    modules = {}
    for number, cell in enumerate(code_cells(notebook), 1):
        for node in ast.walk(tree(cell)):
            try:
                if isinstance(node, ast.Import):
                    for alias in node.names:
                        if alias.name.split(".")[0] == "rftlab":
                            module = importlib.import_module(alias.name)
                            modules[alias.asname or "rftlab"] = module if alias.asname else importlib.import_module("rftlab")
                elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rftlab":
                    for alias in node.names:
                        value = _member(importlib.import_module(node.module), alias.name)
                        if isinstance(value, type(ast)):
                            modules[alias.asname or alias.name] = value
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    modules.pop(node.id, None)  # the name means something else from here on
                elif isinstance(node, ast.Attribute):
                    _resolve(node, modules)
            except (ImportError, AttributeError) as error:
                yield f"code cell {number}: {error}"


def _member(module, name):
    try:
        return getattr(module, name)
    except AttributeError:
        return importlib.import_module(f"{module.__name__}.{name}")


def _resolve(node, modules):
    """The value behind `module.name`, None where it does not start at a known module. Raises AttributeError if missing."""
    if isinstance(node, ast.Name):
        return modules.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, modules)
        return _member(owner, node.attr) if isinstance(owner, type(ast)) else None
    return None


# ---- rules for the chapters ----

def opens_with_the_four_cells(notebook):
    cells = notebook.cells[:4]
    if [cell.cell_type for cell in cells] != ["markdown", "markdown", "code", "code"]:
        yield "does not open with title, outline, set-up and imports (two markdown cells, two code cells)"
        return
    if not cells[0].source.startswith("# ") or "?" not in cells[0].source:
        yield "cell 1 is not a title (`# ...`) with the question that the notebook answers"
    if "minutes" not in cells[1].source or not re.search(r"\bnot\b.*\bcover", cells[1].source, re.IGNORECASE | re.DOTALL):
        yield "cell 2 does not say how many minutes it takes and what is not covered"
    if cells[2].source != SETUP_CELL:
        yield "cell 3 is not the set-up cell, character for character (rftlab.notebooks.SETUP_CELL)"
    if "import " not in cells[3].source:
        yield "cell 4 does not import what the notebook uses"


def has_the_sections(notebook, sections=SECTIONS):
    text = markdown(notebook)
    headings = re.findall(r"^#+\s+(.*)", text, re.MULTILINE)
    for section in sections:
        if not any(section.lower() in heading.lower() for heading in headings):
            yield f"no section {section}"
    if not re.search(r"^(?:#+ .*|.*\*\*.*)\bpredict", text, re.IGNORECASE | re.MULTILINE):
        yield "nowhere asks the reader to predict (a heading or bold text with that word)"
    if not re.search(r"^\|.*healthy.*\|.*sick.*\|", text, re.IGNORECASE | re.MULTILINE):
        yield "no table metric - healthy - sick"


def has_the_sections_of_an_appendix(notebook):
    """An appendix is for looking things up: no exercises and no questionnaire, everything else as in a chapter."""
    yield from has_the_sections(notebook, APPENDIX_SECTIONS)


def has_the_right_size(notebook):
    code, total = len(code_cells(notebook)), len(notebook.cells)
    if not CELLS[0] <= total <= CELLS[1]:
        yield f"{total} cells, expected {CELLS[0]} to {CELLS[1]}"
    ratio = (total - code) / max(code, 1)
    if not MARKDOWN_PER_CODE[0] <= ratio <= MARKDOWN_PER_CODE[1]:
        yield f"{ratio:.1f} markdown cells for each code cell, expected {MARKDOWN_PER_CODE[0]} to {MARKDOWN_PER_CODE[1]}"
    size = len(json.dumps(notebook, ensure_ascii=False).encode())
    if size > MOST_BYTES:
        yield f"{size} bytes, at most {MOST_BYTES}; smaller or fewer figures"


def has_exercises(notebook):
    stubs = sum("raise NotImplementedError" in cell.source for cell in code_cells(notebook))
    if not EXERCISES[0] <= stubs <= EXERCISES[1]:
        yield f"{stubs} exercise stubs (raise NotImplementedError), expected {EXERCISES[0]} to {EXERCISES[1]}"


def is_really_compared(notebook):
    """Most code cells show a result that strict nbval compares, or assert something."""
    cells, checked, ignored, check_names = code_cells(notebook), 0, 0, {"checks"}
    for number, cell in enumerate(cells, 1):
        ignores = "nbval-ignore-output" in tags(cell)
        ignored += ignores
        if ignores and "rft-volatile" not in tags(cell):
            yield f"code cell {number}: switches the comparison off without the tag rft-volatile"
        if "nbval-skip" in tags(cell) or re.search(r"^\s*#\s*(NBVAL|PYTEST_VALIDATE)_", cell.source, re.MULTILINE):
            yield f"code cell {number}: steers nbval by nbval-skip or by a comment; use tags, and guard code instead of skipping"
        nodes = list(ast.walk(tree(cell)))
        check_names |= {alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom)
                        and (node.module or "").startswith("rftlab.checks") for alias in node.names}
        asserts = any(isinstance(node, ast.Assert) or isinstance(node, ast.Name) and node.id in check_names for node in nodes)
        shows = not ignores and any(text.strip() and not FIGURE.fullmatch(text.strip()) for text in text_outputs(cell))
        checked += asserts or shows
    if checked < LEAST_CHECKED * len(cells):
        yield f"{checked} of {len(cells)} code cells show a compared result or assert one, expected {LEAST_CHECKED:.0%}"
    if ignored > MOST_IGNORED:
        yield f"{ignored} cells are not compared, at most {MOST_IGNORED}"


def has_one_headline(notebook):
    tagged = sum("headline" in tags(cell) for cell in notebook.cells)
    if tagged != 1 or not headline(notebook):
        yield f"{tagged} cells tagged `headline`, expected one that prints the result (its last line goes into the summary)"


def links_resolve(notebook):
    """Links and `paths in backquotes` that point into this repository lead somewhere."""
    text = re.sub(r"```.*?```", "", markdown(notebook), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)|<img[^>]+src=\"([^\"]+)\"", text):
        target = target[0] or target[1]
        if not re.match(r"[a-z]+:", target) and not (ROOT / "notebooks" / target).resolve().exists():
            yield f"the link {target} leads nowhere"
    for target in re.findall(r"`((?:rftlab|data|notebooks|tests)/[\w./-]*\w/?)`", text):
        if not (ROOT / target).exists():
            yield f"`{target}` does not exist"


FOR_ALL = (format_is_current, ran_from_a_fresh_kernel, outputs_are_clean, kernel_is_python3, code_is_plain, nothing_leaks,
           rftlab_names_exist)
FOR_CHAPTERS = (opens_with_the_four_cells, has_the_sections, has_the_right_size, has_exercises, is_really_compared,
                has_one_headline, links_resolve)
FOR_APPENDICES = (opens_with_the_four_cells, has_the_sections_of_an_appendix, has_the_right_size, is_really_compared,
                  has_one_headline, links_resolve)
