"""Files as they really come: cp1252, Windows line ends, half characters, endless numbers; and rewards that import and decorate."""
import json
import os
import re
import sys

import pytest

from rftlab import data, own_task
from rftlab.__main__ import main
from rftlab.data_check import check, verify_from


def loaded(tmp_path, *lines):
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n")
    return data.load(file)


GOOD = '{"prompt": "good", "answer": "1"}'
HALF = r'"a \ud83d b"'
DIGITS = "1" * 5000


@pytest.mark.parametrize("line, where, found, expected", [
    ('{"prompt": "café"}'.encode("cp1252"), "the line", "no UTF-8 at byte 16", "save the file as UTF-8"),
    ('{"prompt": "a", "answer": %s}' % DIGITS, "the line", "4300 digits", "in quotes"),
    ('{"instruction": "a", "history": 5}', "history", "a int", "a list of pairs"),
    ('{"instruction": "a", "history": 0}', "history", "a int", "a list of pairs"),
    ('{"instruction": "a", "history": {"b": "c"}}', "history", "a dict", "a list of pairs"),
    ('{"instruction": "Double it", "input": 0, "output": "0"}', "input", "a int", "a string"),
    ('{"instruction": "Double it", "input": false}', "input", "a bool", "a string"),
    ('{"instruction": "a", "system": 0}', "system", "a int", "a string"),
    ('{"prompt": %s}' % HALF, "prompt", r"half a character, \ud83d", "both halves"),
    ('{"text": %s}' % HALF, "text", r"half a character, \ud83d", "both halves"),
    ('{"messages": [{"role": "user", "content": %s}]}' % HALF, "messages[0]", r"half a character, \ud83d", "both halves"),
    ('{"prompt": "a", "answer": %s}' % HALF, "answer", r"half a character, \ud83d", "both halves"),
    ('{"prompt": "a", "more": [{"deep": %s}]}' % HALF, "more", r"half a character, \ud83d", "both halves"),
    ('{"prompt": "a", %s: 1}' % HALF, "keys", r"half a character, \ud83d", "both halves"),
    ('{%s: 1}' % HALF, "keys", r"half a character, \ud83d", "both halves"),
])
def test_an_odd_line_is_a_fault_and_the_others_load(tmp_path, capsys, line, where, found, expected):
    examples = loaded(tmp_path, GOOD, line, GOOD)
    fault, = examples.faults
    assert ([row.line for row in examples.rows], fault.line, fault.field) == ([1, 3], 2, where)
    assert found in fault.found and expected in fault.expected
    assert main(["data", "check", str(tmp_path / "mine.jsonl")]) == 1 and "fault: line 2, " in capsys.readouterr().out.encode().decode()


def test_whole_characters_and_what_is_absent_are_no_fault(tmp_path):
    examples = loaded(tmp_path, b"\xef\xbb\xbf" + '{"prompt": "caf\\u00e9 é \\ud83d\\ude00"}'.encode(), "\u00a0",
                      *(json.dumps({"instruction": "a", "input": none, "history": none, "system": none, "output": none}) for none in (None, "")))
    assert not examples.faults and [row.line for row in examples.rows] == [1, 3, 4]
    assert examples.problems[0].prompt == "café é \U0001f600" and [row.prompt[0]["content"] for row in examples.rows[1:]] == ["a", "a"]
    assert data.messages({"instruction": "a", "history": []}) == data.messages({"instruction": "a"})


def test_a_number_in_memory_that_cannot_be_written_is_a_fault_too():
    fault, = data.parse([{"prompt": "a", "answer": 10**5000}]).faults
    assert fault.field == "answer" and "4300 digits" in fault.found
    assert data.parse([{"prompt": "a", "made": object(), "pairs": {(1, 2): 3}}]).rows, "columns may hold what JSON has no word for"


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_windows_line_ends_in_text(end):
    text = "### Instruction:\n2 + 3 =\nIn words?\n\n### Response:\nfive"
    assert data.messages({"text": text.replace("\n", end)}) == data.messages({"text": text})
    assert data.messages({"text": f"2 + 3 ={end}?"})[0]["content"] == "2 + 3 =\n?"


def test_converting_in_place_is_all_or_nothing(tmp_path, capsys, monkeypatch):
    file = tmp_path / "mine.jsonl"
    file.write_text(GOOD + '\n{"prompt": %s}\n' % HALF)
    file.chmod(0o600)
    before = file.read_bytes()
    assert main(["data", "convert", str(file), "--to", "chatml", "--out", str(file)]) == 1
    assert "half a character" in capsys.readouterr().err and file.read_bytes() == before

    # A half character that no check saw must not cost the file either.
    file.write_text(GOOD + "\n")
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(data, "convert", lambda row, to: {"prompt": "\ud83d"})
        main(["data", "convert", str(file), "--to", "chatml", "--out", str(file)])
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]

    link = tmp_path / "link.jsonl"
    link.symlink_to(file)
    assert main(["data", "convert", str(file), "--to", "chatml", "--out", str(link)]) == 0
    assert link.is_symlink() and json.loads(file.read_text())["messages"][0]["content"] == "good" and file.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == [link, file]
    read, write = os.pipe()
    assert main(["data", "convert", str(file), "--to", "prompt", "--out", f"/dev/fd/{write}"]) == 0, "a pipe, as /dev/stdout may be one"
    assert json.loads(os.read(read, 999)) == json.loads(GOOD)
    os.close(read), os.close(write)


@pytest.fixture
def own_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    return sys.path


def test_a_reward_file_may_decorate(tmp_path, own_path):
    for name, paid in (("one", 0.25), ("two", 0.5)):
        (tmp_path / f"{name}.py").write_text(
            "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Grade:\n    paid: float\n"
            f"def right(completion, problem):\n    @dataclass\n    class Inner(Grade):\n        why: str = ''\n    return Inner({paid}).paid\n")
    one, two = (verify_from(f"{tmp_path / name}.py:right") for name in ("one", "two"))
    (tmp_path / "bad.py").write_text("1/0")
    with pytest.raises(ValueError, match="cannot be run"):
        verify_from(f"{tmp_path / 'bad.py'}:right")
    assert (one("x", None), two("x", None)) == (0.25, 0.5), "each in a module of its own"
    assert not [name for name in sys.modules if name.startswith("own_reward") and name.endswith("bad_py")]


def test_a_reward_may_import_what_lies_beside_it_when_it_grades(tmp_path, own_path):
    before = [*own_path]
    (tmp_path / "beside_me_too.py").write_text("PAID = 0.25\n")
    (tmp_path / "mine.py").write_text("def right(completion, problem):\n    from beside_me_too import PAID\n    return PAID\n")
    for _ in range(2):
        assert verify_from(f"{tmp_path / 'mine.py'}:right")("x", None) == 0.25
    assert sys.path == [*before, str(tmp_path)], "at the end, and once"


def test_a_reward_file_keeps_its_own_entries_of_the_path(tmp_path, own_path):
    before = [*own_path]
    (tmp_path / "mine.py").write_text("import sys\nsys.path.insert(0, '/my/own')\ndef right(completion, problem): return 1.0\n")
    verify_from(f"{tmp_path / 'mine.py'}:right")
    assert sys.path == ["/my/own", *before, str(tmp_path)]
    (tmp_path / "bad.py").write_text("import sys\nsys.path.insert(0, '/my/other')\n1/0\n")
    with pytest.raises(ValueError, match="cannot be run"):
        verify_from(f"{tmp_path / 'bad.py'}:right")
    assert sys.path[:2] == ["/my/other", "/my/own"] and sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize("one, other", [
    ("What is .5 + 1?", "What is 5 + 1?"), ("-.5", "-5"), ("What is 5!", "What is 5"), ("5! / 3", "5 / 3"), ("(2 + 3)!", "(2 + 3)"),
    ("5!!", "5!"), ("Is 5 != 4?", "Is 5 = 4?"), ("1.5", "15"), ("2 - 3", "2 + 3")])
def test_another_question_is_no_spelling_of_it(one, other):
    assert own_task.normal(one) != own_task.normal(other)
    problems = data.parse([{"prompt": one, "answer": "1"}, {"prompt": other, "answer": "2"}])
    assert check(problems).ok
    assert own_task.own_task(problems.problems[:1], right, test=problems.problems[1:]).test()


@pytest.mark.parametrize("one, other", [
    ("It is 5.", "it is 5"), ("What? .. Hello", "what hello"), ("Hello...world!", "hello world"), ("So...5", "so 5"),
    ("Hello .World", "Hello. World"),
    ("What is  2 + 3 ?", "what is 2 + 3"), ("Stop! Add (it all)!", "stop add (it all)"), ("1,000.", "1,000"), ("5.!", "5"), ("'.5'", ".5")])
def test_spellings_of_one_question_stay_the_same(one, other):
    assert own_task.normal(one) == own_task.normal(other)


def right(completion, problem):
    return float(completion.strip() == problem.answer)


@pytest.mark.parametrize("share", [0, -1, 1, 1.0, 5, 1.5, True, False, float("nan")])
def test_a_share_lies_between_0_and_1(share):
    problems = data.parse([{"prompt": f"{i} + 1 =", "answer": str(i + 1)} for i in range(10)]).problems
    with pytest.raises(ValueError, match=re.escape(f"test={share}") + ".*expected a share between 0 and 1.*or a list of problems"):
        own_task.own_task(problems, right, test=share)
    assert len(own_task.own_task(problems, right, test=0.3).test()) == 3
    assert len(own_task.own_task(problems[:9], right, test=problems[9:]).test()) == 1
