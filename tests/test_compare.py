"""Before beside after: the numbers are those of the answers, an untrained model shows no difference, and the page holds what it says."""
import json
import re

import pytest

import rftlab
from rftlab import compare, own_task
from rftlab.__main__ import main
from rftlab.tasks import Problem


class Says:
    """A policy that answers by rule, with a real tokenizer."""

    def __init__(self, name, answer):
        self.name, self.answer, real = name, answer, rftlab.load_policy("tiny")
        self.model, self.tokenizer = real.model, real.tokenizer

    def generate(self, prompts, max_new_tokens=32):
        return [self.answer(p) for p in prompts]


def right(completion, problem):
    return float(completion == problem.answer)


@pytest.fixture(scope="module")
def found():
    problems = [Problem(f"say {i} <b>", str(i)) for i in range(20)]
    task = own_task.OwnTask("numbers", right, (), tuple(problems))
    knows = Says("knows", lambda p: next(iter(re.findall(r"\d+", p)), "Paris"))
    return compare.compare(Says("silent", lambda p: "blue"), lambda: knows, task, problems)


def test_the_numbers(found):
    (what, before, after, gap), = found.tables["Held-out problems"]
    assert (what, before.mean, after.mean, gap.mean, gap.n) == ("numbers", 0.0, 1.0, 1.0, 20) and gap.low > 0.7
    assert all(gap.mean == 1.0 for *_, gap in found.tables["Other wordings of them"])
    (_, before, after, gap), = found.tables["What it could do before"]
    assert before.mean == pytest.approx(1 / 12) and gap.low <= 0 <= gap.high, "one question each, another one"
    assert [n[0] for n in found.numbers] == ["tokens per second", "seconds to load", "peak memory, MB", "parameters, M"]


def test_the_page(found, tmp_path):
    page = found.save(tmp_path / "new" / "report.html").read_text()
    assert "say 3 &lt;b&gt;" in page and "<b>" not in page and "http" not in page
    assert page.count("reward 1") == 8 and page.count("reward 0") == 8 and "+1.00 [" in page
    for tag in ("table", "style", "h1", "h2", "pre"):
        assert page.count(f"<{tag}") == page.count(f"</{tag}>"), tag


def test_no_difference_is_said_as_such(tmp_path, capsys):
    file = tmp_path / "held-out.jsonl"
    task = rftlab.load_task("arithmetic", level=1)
    file.write_text("".join(json.dumps({"prompt": p.prompt, "answer": p.answer}) + "\n" for p in task.test(12)))
    assert main(["report", "tiny", "tiny", "--data", str(file), "--reward", "arithmetic", "--out", str(tmp_path / "r.html")]) == 0
    said = capsys.readouterr().out
    expected = rftlab.evaluate.accuracy(rftlab.load_policy("tiny"), task, task.test(12))
    assert f"held-out: {expected} -> {expected}, difference +0.00 [" in said and (tmp_path / "r.html").is_file()
    with pytest.raises(ValueError, match="no held-out problems"):
        compare.compare(None, None, task, [])
