"""From completions to programs: one block, one spelling, and never an exception but FormatError."""
import ast
import marshal
import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st

from rftlab.kernels.extract import FormatError, extract
from rftlab.kernels.transform import code_of

CODE = "import triton\n\ndef add(x, y):\n    return x\n"


def block(code, name="python"):
    return f"```{name}\n{code}```\n"


def test_the_block_may_stand_in_prose():
    assert extract("Here it is:\n\n" + block(CODE) + "\nDone.").text.startswith("import triton")


@pytest.mark.parametrize("newline", ["\r\n", "\r", "\n"])
def test_line_ends_do_not_matter(newline):
    assert extract(block(CODE).replace("\n", newline)).text == extract(block(CODE)).text


@pytest.mark.parametrize("completion, why", [
    ("", "found 0"),
    (CODE, "found 0"),
    (block(CODE) + block(CODE), "found 2"),
    (block(CODE, ""), "found 0"),
    (block(CODE, "py"), "found 0"),
    (block(CODE, "Python"), "found 0"),
    (block(CODE) + "```\nprint()\n```\n", "opens with"),
    ("```python\n" + CODE, "closes with"),
    (block("s = '```'\n"), "opens with"),
    ("text ```python\n" + CODE + "```\n", "found 0"),
    ("  " + block(CODE), "found 0"),
    ("~~~\n" + block(CODE) + "~~~\n", "literal text"),
    ("<!--\n" + block(CODE) + "-->\n", "literal text"),
    ("<think>\n" + block(CODE) + "</think>\n", "think"),
    ("<Reasoning>\n" + block(CODE) + "</Reasoning>\n", "<reasoning>"),
    (block("x = = 1\n"), "line 1: the block is not Python"),
    (block("# coding: utf-7\n" + CODE), "encoding"),
    (block("x = 1\x0c\n"), r"U\+000C"),
    (block("x = 1 # \u202e\n"), r"U\+202E"),
    (block("x\u200b = 1\n"), r"U\+200B"),
    (block("x = 1\x00\n"), r"U\+0000"),
    (block("x = 1\u2028y = 2\n"), r"U\+2028"),
    (block("x = 1\n" * 10_000), "more than 20000"),
])  # fmt: skip
def test_what_is_refused(completion, why):
    with pytest.raises(FormatError, match=why):
        extract(completion)


def test_a_thought_before_the_block_and_a_shell_block_beside_it_are_fine():
    extract("<think>hm</think>\n" + block(CODE) + block("make\n", "bash"))


def test_what_readers_could_disagree_on_is_gone():
    program = extract(block('def k(x):\n    """Quote:\ndef k(x):\n    return evil\n    """\n    a = 1; b = \\\n        2  # note\n    return ｘ\n'))
    assert program.text == "def k(x):\n    a = 1\n    b = 2\n    return x\n"


def test_lines_lead_back_to_the_text_as_written():
    program = extract(block("# first\n\nx = 1\n\n\ny = 2\n"))
    assert [program.line(n) for n in (1, 2)] == [3, 6]


def test_the_script_block_is_left_out():
    assert "print" not in extract(block(CODE + "if __name__ == '__main__':\n    print(add(1, 2))\n")).text


def test_no_statement_can_be_hidden_in_a_string():
    program = extract(block("x = f'a\\ndef k():{1}'\ny = 'a\\ndef k():'\n"))
    assert len(program.text.splitlines()) == 2


@pytest.mark.parametrize("code", ["-" * 19_000 + "1", "not " * 4_000 + "1", "a" + ".b" * 9_000, "(" * 5_000, "lambda: " * 2_400 + "1",
                                  "x = " + "9" * 15_000, "f'{" * 900, "if 1:\n" + "".join(" " * i + "if 1:\n" for i in range(1, 150))])
def test_deep_nesting_is_refused_and_kills_nothing(code):
    try:
        extract(block(code + "\n"))
    except FormatError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300))
def test_no_string_raises_anything_else(text):
    for completion in (text, block(text + "\n")):
        try:
            program = extract(completion)
        except FormatError as error:
            assert str(error)
        else:
            assert ast.dump(ast.parse(program.text)) == ast.dump(program.tree)
            assert extract(block(program.text)).text == program.text  # printing again changes nothing


@pytest.mark.parametrize("statement", [
    "match x:\n    case 1:\n        'text'\n    case _:\n        y = 1",
    "try:\n    'a'\nexcept E as e:\n    'b'\nelse:\n    'c'\nfinally:\n    'd'",
    "for i in x:\n    'a'\nelse:\n    'b'",
    "with a as b:\n    'c'",
    "async def f():\n    async for i in x:\n        'a'",
    "class C:\n    'a'",
    "while x:\n    'a'",
    "if x:\n    pass\nelif y:\n    'b'\nelse:\n    'c'",
])  # fmt: skip
def test_bare_strings_vanish_from_every_statement(statement):
    """And what is left has a line of the block for each line of its own."""
    program = extract(block(statement + "\n"))
    assert "'" not in program.text
    assert all(1 <= program.line(n + 1) <= statement.count("\n") + 1 for n in range(program.text.count("\n")))


@pytest.mark.parametrize("code, why", [
    ("if 1:\n    return 2\n", "line 2: the block is not Python: 'return' outside function"),
    ("def f():\n    'text'\n    break\n", "line 3: the block is not Python: 'break' outside loop"),
    ("def f(x):\n    global x\n", "parameter and global"),
])  # fmt: skip
def test_what_only_the_compiler_of_python_refuses_is_no_program(code, why):
    with pytest.raises(FormatError, match=why):
        code_of(extract(block(code)))


def test_kernels_are_rewritten_and_other_functions_are_not():
    code = "@jit\ndef k(a, b):\n    c = a and b\n    return c\n\ndef f(a, b):\n    c = a and b\n    return c\n"
    module, kernels = marshal.loads(code_of(extract(block(code))))
    assert {line: name for line, (name, _) in kernels.items()} == {1: "k"}
    (rewritten,) = [constant for constant in kernels[1][1].co_consts if hasattr(constant, "co_names")]
    assert {"interpreter and", "interpreter tensor"} <= set(rewritten.co_names)
    assert not any("interpreter" in name for constant in module.co_consts if hasattr(constant, "co_names") for name in constant.co_names)


@pytest.mark.parametrize("line", ["x is 1", '"a\\d"'])
def test_python_remarks_on_a_program_stay_unsaid(line):
    code = f"from rftlab.kernels import extract, transform; transform.code_of(extract.extract({block(f'def f(x):' + chr(10) + f'    return {line}' + chr(10))!r}))"
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True)  # pytest has filters of its own
    assert (done.returncode, done.stderr) == (0, "")
