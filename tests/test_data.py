"""Five formats in and out, and every line that is not blank is a row or a fault that says where and what."""
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rftlab
from rftlab import data, own_task
from rftlab.__main__ import main
from rftlab.data_check import check, verify_from

SAID = [{"role": "user", "content": "2 + 3 ="}, {"role": "assistant", "content": "5"}]
SAME = {
    "text": {"text": "### Instruction:\n2 + 3 =\n\n### Response:\n5"},
    "instruction": {"instruction": "2 + 3 =", "input": "", "output": "5"},
    "sharegpt": {"conversations": [{"from": "human", "value": "2 + 3 ="}, {"from": "gpt", "value": "5"}]},
    "chatml": {"messages": SAID},
    "prompt": {"prompt": "2 + 3 =", "completion": "5"},
}
# Text that can stand in every format: not blank, no heading of its own, no newline at its ends.
words = st.text(st.characters(codec="utf-8", exclude_characters="#\r\x85\u2028\u2029"), min_size=1, max_size=30).map(str.strip).filter(bool)


@pytest.mark.parametrize("kind", data.FORMATS)
def test_each_format_says_the_same(kind):
    assert data.recognise(SAME[kind]) == kind
    assert data.messages(SAME[kind]) == SAID
    for other in data.FORMATS:
        assert data.convert({**SAME[kind], "answer": "5"}, other) == {**SAME[other], "answer": "5"}


@given(system=st.none() | words, turns=st.lists(words, min_size=1, max_size=5), kind=st.sampled_from(data.FORMATS))
@settings(max_examples=150, deadline=None)
def test_conversion_loses_nothing(system, turns, kind):
    said = [{"role": "system", "content": system}] if system else []
    said += [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    row = json.loads(json.dumps(data.convert({"messages": said}, kind)))
    assert data.recognise(row) == kind and data.messages(row) == said


def test_alpaca_joins_instruction_and_input():
    row = {"instruction": "Add.", "input": "2 and 3", "output": "5", "system": "Be short.", "history": [["Hi", "Hello"]]}
    assert [m["content"] for m in data.messages(row)] == ["Be short.", "Hi", "Hello", "Add.\n\n2 and 3", "5"]


def test_a_problem_has_what_a_verifier_needs():
    chat, = data.parse([{"messages": SAID, "unit": "none"}]).problems
    assert (chat.prompt, chat.answer, chat.solution, chat.info) == ("2 + 3 =", "5", "5", {"unit": "none"})
    bare, = data.parse([{"prompt": "2 + 3 =", "answer": 5}]).problems
    assert (bare.prompt, bare.answer, bare.solution) == ("2 + 3 =", "5", "")
    many, = data.parse([{"prompt": [{"role": "system", "content": "Be short."}, SAID[0]], "answer": "5"}]).problems
    assert many.prompt[0]["role"] == "system"


@pytest.mark.parametrize("line, where, found, expected", [
    ('{"prompt": "a"', "character 15", "no JSON", "one JSON object"),
    ("[1]", "the line", "a list", "an object"),
    ('{"question": "a"}', "keys", "only question", "exactly one of text, instruction"),
    ('{"prompt": "a", "text": "b"}', "keys", "text and prompt", "exactly one"),
    ('{"prompt": 3}', "prompt", "a int", "a list of"),
    ('{"text": ["a"]}', "text", "a list", "a string"),
    ('{"prompt": "  "}', "prompt", "nothing but blanks", "some text"),
    ('{"messages": []}', "messages", "an empty list", "a list of"),
    ('{"messages": [{"role": "user"}]}', "messages[0]", "role", 'keys "role" and "content"'),
    ('{"messages": [{"role": "tool", "content": "x"}]}', "messages[0]", "'tool'", "system, user or assistant"),
    ('{"messages": [{"role": "assistant", "content": "x"}]}', "messages[0]", "assistant at the start", "system or user"),
    ('{"messages": [{"role": "system", "content": "x"}]}', "messages[0]", "no question", "user"),
    ('{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}', "messages[1]", "after one of user", "assistant"),
    ('{"conversations": [{"from": ["x"], "value": "y"}]}', "conversations[0]", "['x']", "system, user"),
    ('{"instruction": "a", "output": 5}', "output", "a int", "a string"),
    ('{"instruction": "a", "history": [["b"]]}', "history", "['b']", "pairs"),
    ('{"text": "Hi\\n### Response:\\nyes"}', "text", "before the first heading", "begin with a heading"),
])
def test_a_bad_line_is_named(tmp_path, line, where, found, expected):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "good", "answer": "1"}\n\n' + line + "\n")
    examples = data.load(file)
    fault, = examples.faults
    assert (len(examples.rows), fault.line, fault.field) == (1, 3, where)
    assert found in fault.found and expected in fault.expected
    with pytest.raises(ValueError, match="1 of 2 lines .* cannot be used:\n  line 3, "):
        examples.usable()


@pytest.mark.parametrize("content, said", [
    ('[\n  {"prompt": "a"}\n]\n', "not one document over several lines"),
    ('[{"prompt": "a"}, {"prompt": "b"}]', "a list; expected an object.* each on a line of its own"),
    ("prompt,answer\n2 + 3,5\n", "not a table; csv.DictReader reads one"),
    ("\ufeff" + '{"prompt": "a"}\n'.encode("utf-16").decode("latin-1"), "no JSON"),
    ('{"prompt": "a"}\n'.encode("utf-16"), "line 1, the file: UTF-16"),
    (b"PK\x03\x04rest", "a zip archive"), (b"PAR1\x00", "a Parquet file"), (bytes(range(256)), "no JSON"),
    ("[" * 100000, "nested too deep"),
])
def test_what_is_no_jsonl_is_explained(tmp_path, content, said):
    file = tmp_path / "mine.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    examples = data.load(file)
    assert re.search(said, str(examples.faults[0])), examples.faults[0]


@pytest.mark.parametrize("content", ["", "\n \n\n"])
def test_an_empty_file_is_no_good_file(tmp_path, capsys, content):
    file = tmp_path / "empty.jsonl"
    file.write_text(content)
    with pytest.raises(ValueError, match="empty.jsonl holds no example; expected one JSON object a line, such as"):
        data.load(file).usable()
    assert main(["data", "check", str(file)]) == 1 and "empty: empty.jsonl holds no example" in capsys.readouterr().out
    assert kinds(check(rows(("a", "1")), test=data.load(file))) == [("empty", 0)]
    with pytest.raises(FileNotFoundError, match="does not exist .looked for in .*expected a file with one JSON object a line"):
        data.load(tmp_path / "nothing.jsonl")
    with pytest.raises(IsADirectoryError, match="is a folder; expected a file"):
        data.load(tmp_path)


@given(st.lists(st.text(max_size=20) | st.sampled_from([json.dumps(row) for row in SAME.values()]), max_size=8))
@settings(max_examples=150, deadline=None)
def test_no_line_vanishes(tmp_path_factory, lines):
    file = tmp_path_factory.mktemp("any") / "mine.jsonl"
    raw = "\n".join(lines).encode("utf-8", "surrogatepass")
    file.write_bytes(raw)
    examples = data.load(file)
    full = [n for n, line in enumerate(raw.decode("utf-8-sig", "replace").split("\n"), 1) if line.strip()]
    assert sorted([row.line for row in examples.rows] + [fault.line for fault in examples.faults]) == full


def right(completion, problem):
    return float(completion.strip() == problem.answer)


def rows(*pairs):
    return data.parse([{"prompt": prompt, "answer": answer} for prompt, answer in pairs])


def kinds(report):
    return [(one.kind, one.line) for one in report.findings]


def test_a_good_file_has_no_findings():
    report = check(rows(("2 + 3 =", "5"), ("2 + 4 =", "6")), test=rows(("9 + 3 =", "12")), verify=right)
    assert report.ok and report.rows == 2 and "nothing wrong was found" in str(report)


def test_duplicates_contradictions_and_leaks():
    train = rows(("What is 2 + 3?", "5"), ("what is  2 + 3", "5"), ("What is 2 + 3 ?", "6"), ("What is 2 - 3?", "-1"))
    assert kinds(check(train)) == [("duplicate", 2), ("contradiction", 3)]
    held_out = rows(("7 + 7", "14"), ("WHAT IS 2 - 3", "-1"), ("What is 3 - 2?", "1"))
    assert kinds(check(rows(("What is 2 - 3?", "-1")), test=held_out)) == [("leak", 2), ("leak", 3)]


def test_a_verifier_that_errs_is_found():
    examples = rows(("a", "1"), ("b", "2"))
    assert [k for k, _ in kinds(check(examples, verify=lambda c, p: 0.0))] == ["rejected", "rejected"]
    assert [k for k, _ in kinds(check(examples, verify=lambda c, p: float(c.strip().isdigit() and len(c) < 9)))] == ["gullible", "gullible"]
    report = check(examples, verify=lambda c, p: float(float(c or 0) == float(p.answer)))
    assert {k for k, _ in kinds(report)} == {"fragile"} and "failed with ValueError" in str(report)
    assert kinds(check(data.parse([{"prompt": "no answer"}]))) == [("silent", 1)]


def test_long_prompts_are_counted_in_the_models_own_template():
    policy = rftlab.load_policy("tiny")
    short, long = "2 + 3 =", "2 + 3 = " * 20
    exact = len(policy.encode([long])[0][0])
    assert check(rows((short, "5"), (long, "5")), policy=policy, max_prompt_tokens=exact).ok
    assert kinds(check(rows((short, "5"), (long, "5")), policy=policy, max_prompt_tokens=exact - 1)) == [("long", 2)]


def test_a_task_of_ones_own_divides_without_leaks():
    problems = [*rows(*((f"{i} + 1 =", str(i + 1)) for i in range(20))).problems, *rows(("3  + 1 =", "4")).problems]
    task = own_task.own_task(problems, right)
    train, test = task.train(), task.test()
    assert len(train) + len(test) == 21 and len(test) in (4, 5)
    assert not {own_task.normal(p.prompt) for p in train} & {own_task.normal(p.prompt) for p in test}
    assert own_task.own_task(problems[::-1], right).test()[0] in test, "the order of the file does not matter"
    assert task.train(3) == task.train(5)[:3] and task.reward("2", train[0]) in (0.0, 1.0)
    with pytest.raises(ValueError, match="2 of 2 test problems are training problems"):
        own_task.own_task(problems, right, test=problems[:2])
    with pytest.raises(ValueError, match="0 training and 1 test"):
        own_task.own_task(problems[:1], right)
    with pytest.raises(ValueError, match="99 training problems were asked for, there are"):
        task.train(99)


def test_a_reward_that_fails_names_the_completion():
    task = own_task.OwnTask("own", lambda c, p: 1 / len(c), (), ())
    with pytest.raises(ValueError, match="(?s)ZeroDivisionError.*on the completion ''.*return a number for every string"):
        task.reward("", rows(("a", "1")).problems[0])


@pytest.mark.parametrize("said, shown", [(float("nan"), "nan"), (float("inf"), "inf"), ("1.0", "'1.0'"), ([1.0], r"\[1.0\]"), (10**400, "1000"),
                                         (None, "None for 'a'")])
def test_a_reward_that_is_no_number_is_refused(said, shown):
    with pytest.raises(ValueError, match=f"returned {shown}.*expected a finite number"):
        own_task.OwnTask("own", lambda c, p: said, (), ()).reward("a", rows(("a", "1")).problems[0])
    with pytest.raises(ValueError, match="does every way through it end in a `return`"):
        own_task.OwnTask("own", lambda c, p: None, (), ()).reward("a", rows(("a", "1")).problems[0])


@pytest.mark.parametrize("verify, said", [
    (lambda text: 1.0, "cannot be called with .completion, problem.: too many positional"), (3, "the reward is 3; expected a function"),
    (lambda completion, problem, strictly: 1.0, "missing a required argument: 'strictly'"),
    (lambda prompts, completions, **columns: [1.0], "takes whole lists, as TRL wants them: give it to reward_fn="),
    (lambda completions, **columns: [1.0], "cannot be called with")])
def test_a_reward_of_another_form_is_refused_at_once(verify, said):
    with pytest.raises(ValueError, match=said):
        own_task.own_task(rows(("a", "1"), ("b", "2")).problems, verify)


def test_a_reward_may_be_anything_that_takes_a_completion_and_a_problem():
    problem, = rows(("a", "1")).problems
    for verify in (lambda c, p: True, lambda c, p, strictly=False: 1, lambda *both: 1.0, rftlab.load_task("arithmetic").reward):
        assert own_task.OwnTask("own", verify, (), ()).reward("1", problem) == 1.0


@pytest.mark.parametrize("source, said", [
    ("def right(:", "cannot be run, line 1 of mine.py: SyntaxError"),
    ("import json\n1/0", "cannot be run, line 2 of mine.py: ZeroDivisionError"), ("raise SystemExit(3)", "cannot be run, line 1 of mine.py: SystemExit: 3"),
    ("import not_there", "ModuleNotFoundError: No module named 'not_there'"), (None, "there is no file .*mine.py"),
    ("def other(completion, problem): return 1", "has no function 'right'"),
    ("def right(completion): return 1", r"right\(completion\) cannot be called"),
    ("\n\ndef right(completion, problem):\n    return 1 / 0", "ZeroDivisionError: division by zero, line 4 of mine.py")])
def test_a_file_with_a_bad_reward_is_one_clear_line(tmp_path, capsys, source, said):
    file = tmp_path / "good.jsonl"
    file.write_text('{"prompt": "2 + 3 =", "answer": "5"}\n')
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    assert main(["data", "check", str(file), "--reward", f"{tmp_path / 'mine.py'}:right"]) == 1
    out = capsys.readouterr()
    assert re.search(said, out.err + out.out) and "Traceback" not in out.err


def test_a_reward_imports_what_lies_beside_it(tmp_path):
    (tmp_path / "beside_it.py").write_text("PAID = 0.25\n")
    (tmp_path / "mine.py").write_text("from beside_it import PAID\ndef right(completion, problem): return PAID\n")
    assert verify_from(f"{tmp_path / 'mine.py'}:right")("x", None) == 0.25


def test_the_commands(tmp_path, capsys):
    file, out, picture = tmp_path / "mine.jsonl", tmp_path / "chat.jsonl", tmp_path / "lengths.png"
    file.write_text("".join(json.dumps({"prompt": f"{i} + 1 =", "answer": str(i + 1)}) + "\n" for i in range(3)))
    reward = tmp_path / "reward.py"
    reward.write_text("def right(completion, problem):\n    return float(completion.strip() == problem.answer)\n")
    assert main(["data", "check", str(file), "--reward", f"{reward}:right", "--picture", str(picture)]) == 0
    assert "3 rows (3 prompt)" in capsys.readouterr().out and picture.read_bytes().startswith(b"\x89PNG")
    assert main(["data", "convert", str(file), "--to", "sharegpt", "--out", str(out)]) == 0
    assert json.loads(out.read_text().splitlines()[2]) == {"conversations": [{"from": "human", "value": "2 + 1 ="}], "answer": "3"}
    file.write_text('{"prompt": "a", "answer": "1"}\n{"prompt": 1}\n')
    assert main(["data", "check", str(file)]) == 1
    assert "fault: line 2, prompt: a int; expected" in capsys.readouterr().out
    assert main(["data", "convert", str(file), "--to", "text", "--out", str(out)]) == 1
    assert verify_from("arithmetic")("5", rows(("2 + 3 =", "5")).problems[0]) == 1.0
    with pytest.raises(ValueError, match="is no reward"):
        verify_from("nothing")
