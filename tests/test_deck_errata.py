"""The deck's code blocks and the table of its wrong claims."""
import ast

import pytest

from rftlab import deck_errata
from rftlab.deck_errata import Outcome, load, run, table

BLOCKS, ERRATA = load()


def test_all_32_are_there_and_complete():
    assert list(ERRATA) == list(range(1, 33))
    for one in ERRATA.values():
        assert all(len(text) > 5 for text in (one.slide, one.claim, one.truth, one.source)) and len(one.chapter) == 2


def test_the_blocks_are_python_and_belong_to_errata():
    assert set(deck_errata.WORKFLOW) < set(BLOCKS) and len(BLOCKS) == 13
    for block in BLOCKS.values():
        assert block.erratum == 0 or block.erratum in ERRATA
        if block.name != "install":
            ast.parse(block.code)
            ast.parse(block.mended)
    assert deck_errata.DECKS_MODEL in BLOCKS["load"].code


def test_run_says_what_each_piece_did_and_goes_on():
    outcomes = run([("a", "x = 1\nprint('noise')"), ("b", "y = x + missing"), ("c", "raise ValueError('first\\nsecond')"), ("d", "x += 1"),
                    ("e", "assert x == 2"), ("f", "def broken(:"), ("g", "x = 3")])
    assert [outcome.ran for outcome in outcomes.values()] == [True, False, False, True, True, False, True]
    assert str(outcomes["a"]) == "runs"
    assert outcomes["b"] == Outcome(False, "NameError: name 'missing' is not defined")
    assert outcomes["c"].said == "ValueError: first"
    assert outcomes["f"].said.startswith("SyntaxError: ")


def test_run_puts_the_tiny_model_in_the_place_of_the_decks(tmp_path):
    piece = f"import os\nassert os.path.isfile(os.path.join('{deck_errata.DECKS_MODEL}', 'config.json'))\nassert not os.listdir('.')"
    assert run([("load", piece)])["load"].ran


def test_a_process_that_dies_is_told():
    with pytest.raises(RuntimeError, match="died"):
        run([("a", "import os; os._exit(3)")])


def test_the_table_has_a_row_for_each_and_links_to_what_exists():
    text = table(ERRATA, {number: f"outcome | {number}" for number in ERRATA} | {2: ""})
    rows = text.splitlines()[2:]
    assert len(rows) == 32 and all(row.replace("\\|", "").count("|") == 7 for row in rows)
    assert "outcome \\| 1" in rows[0] and "not a thing to run" in rows[1]
    assert "[02](02_grpo_from_scratch.ipynb)" in rows[0]
    with pytest.raises(KeyError):
        table(ERRATA, {})
