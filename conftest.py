"""Strict nbval: no notebook passes unchecked, and floats may move a little while everything else must be equal.

Plain `pytest --nbval` (0.11.0) passes a notebook whose outputs were stripped, never notices a dead kernel before the
time-out of the cell, and compares floats to the last digit. This file wraps it:

- no vacuous pass: a cell without a stored run, a skipped cell, a comparison switched off without the tag
  `rft-volatile`, and an expected exception that the stored run did not raise, all fail;
- tolerance: a text that differs from the stored one only in floats that are close counts as equal. Integers, words,
  the number of numbers and the lines must be equal. Spaces may differ beside them, since columns shift with a digit;
- repairs: `;` and `_` behave as they do in Jupyter, a dead kernel is noticed in about a second, stderr is not compared
  (it carries process ids and paths; a failure still raises);
- it says at the end how many cells were really compared.
"""
import copy
import math
import os
import re
import time
from collections import defaultdict
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from queue import Empty

import pytest
from nbval import kernel as nbval_kernel
from nbval import plugin as nbval_plugin

from rftlab.notebooks import quiet_folders, recording_environment

for _name, _value in {**quiet_folders(), **recording_environment()}.items():
    os.environ.setdefault(_name, _value)  # before torch starts, and inherited by every kernel

# A sampled run that takes the same path agrees to 1e-4 between CPUs; 2 % leaves room for printing with two digits.
# It is far below what a wrong result changes.
RTOL, ATOL = 2e-2, 1e-6
OPT_OUT = "rft-volatile"
FLOAT = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)(?!\.?\d)")
TEXTS = ("text/plain", "text/markdown", "text/html")
FIGURE = re.compile(r"<Figure size \S+ with \d+ Axes>")


def same_but_for_floats(reference: str, new: str) -> bool:
    """True when the two texts differ at most in floats within RTOL and ATOL, and in spaces within a line."""
    def words(text):
        return [line.split() for line in FLOAT.sub(" # ", text).splitlines()]

    expected, got = FLOAT.findall(reference), FLOAT.findall(new)
    return len(expected) == len(got) and words(reference) == words(new) and all(
        math.isclose(float(a), float(b), rel_tol=RTOL, abs_tol=ATOL) for a, b in zip(expected, got))


def texts_by_kind(outputs) -> dict:
    """The places of all comparable texts, {kind: [(container, key), ...]}, in the order of the outputs."""
    found = defaultdict(list)
    for output in outputs:
        if output.output_type == "stream" and output.name != "stderr":
            found[output.name].append((output, "text"))
        for kind in TEXTS:
            if isinstance(output.get("data", {}).get(kind), str):
                found[kind].append((output["data"], kind))
    return found


_compare_outputs = nbval_plugin.IPyNbCell.compare_outputs


def compare_outputs(self, test, ref, skip_compare=None):
    """nbval's comparison, after every close enough new text has been replaced by the stored one."""
    test = copy.deepcopy(test)
    stored, new = texts_by_kind(ref), texts_by_kind(test)
    for kind, places in new.items():
        for (container, key), (ref_container, ref_key) in zip(places, stored.get(kind, [])):
            if same_but_for_floats(ref_container[ref_key], container[key]):
                container[key] = ref_container[ref_key]
    values = [container[key] for places in stored.values() for container, key in places]
    if any(value.strip() and not FIGURE.fullmatch(value.strip()) for value in values):
        self.user_properties.append(("nbval", "compared"))
    return _compare_outputs(self, test, ref, skip_compare)


def execute_cell_input(self, cell_input, allow_stdin=None):
    """As in nbval, but stored in the history: without that, a trailing `;` and `_` do not behave as in Jupyter."""
    return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


def await_reply(self, msg_id, timeout=None):
    """As in nbval, but looking every second whether the kernel still lives."""
    end = time.monotonic() + (timeout or math.inf)
    while True:
        try:
            message = self.get_message(stream="shell", timeout=min(1.0, max(0.01, end - time.monotonic())))
        except Empty:
            if not self.is_alive():
                self.km.cleanup_resources()  # its connection file; nbval cleans up after living kernels only
                raise RuntimeError("the kernel died in this cell (out of memory?)") from None
            if time.monotonic() > end:
                raise
            continue
        if message["parent_header"].get("msg_id") == msg_id:
            if message["content"]["status"] == "aborted":
                raise RuntimeError("the kernel aborted the execution request")
            return


nbval_plugin.IPyNbCell.compare_outputs = compare_outputs
nbval_kernel.RunningKernel.execute_cell_input = execute_cell_input
nbval_kernel.RunningKernel.await_reply = await_reply


def pytest_report_header(config):
    """Which packages differ from those that the stored results were recorded with: the first thing to look at."""
    pins = config.rootpath / "constraints.txt"
    lines = pins.read_text().splitlines() if pins.is_file() else []
    differing = []
    for name, pinned in (line.split("==") for line in lines if "==" in line and not line.startswith("#")):
        with suppress(PackageNotFoundError):
            if version(name).split("+")[0] != pinned:
                differing.append(f"{name} {version(name)} (pinned: {pinned})")
    return f"not as in constraints.txt: {', '.join(differing)}" if differing else "packages as in constraints.txt"


def is_strict(config) -> bool:
    return config.option.nbval and not config.option.nbval_lax


def pytest_collectstart(collector):
    if isinstance(collector, nbval_plugin.IPyNbFile):
        collector.skip_compare += ("stderr",)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """The rules against a vacuous pass, before the cell runs."""
    if not isinstance(item, nbval_plugin.IPyNbCell) or not is_strict(item.config):
        return
    item.user_properties.append(("nbval", "cell"))
    cell, options = item.cell, item.options
    if options["skip"]:
        pytest.fail("nbval-skip leaves a cell unrun; guard the code inside the cell instead", pytrace=False)
    if cell.source.strip() and cell.execution_count is None:
        pytest.fail("this cell has no stored run, so there is nothing to compare; record the notebook: make record NB=...",
                    pytrace=False)
    if options.get("check") is False and OPT_OUT not in cell.metadata.get("tags", []):
        pytest.fail(f"the comparison is switched off without the tag {OPT_OUT!r}", pytrace=False)
    if options["check_exception"] and not any(output.output_type == "error" for output in cell.outputs):
        pytest.fail("tagged raises-exception, but the stored run raised nothing", pytrace=False)


def pytest_terminal_summary(terminalreporter, config):
    if not is_strict(config):
        return
    counts = {"cell": 0, "compared": 0}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if getattr(report, "when", None) == "call":
            for value in (value for name, value in report.user_properties if name == "nbval"):
                counts[value] += 1
    terminalreporter.write_line(
        f"strict nbval: {counts['cell']} cells run, {counts['compared']} of them compared with stored results")
