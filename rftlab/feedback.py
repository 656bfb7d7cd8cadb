"""What a served model got wrong becomes the next training set; and has the reward drifted since?

    log(path, prompt, completion, answer=None, liked=None, info=None)     one line a served answer
    next_examples(path, verify)                                the prompts to train on next, as rows that rftlab.data reads
    drift(path, verify, before)                                served rewards beside those of the evaluation
"""
import json
import time
from pathlib import Path

from rftlab import data
from rftlab.evaluate import Estimate, bootstrap
from rftlab.own_task import OwnTask, normal
from rftlab.tasks import Problem


def log(path, prompt, completion, answer=None, liked=None, info=None) -> None:
    """Append one served answer. answer: the right one, if it is known; liked: what the reader said, True, False or None; info: what
    else your reward reads, a problem's `.info`."""
    entry = {"time": round(time.time()), "prompt": prompt, "completion": completion}
    entry |= {k: v for k, v in {"answer": answer, "liked": liked, "info": info or None}.items() if v is not None}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def read(path) -> list[dict]:
    """Every entry. Raises FileNotFoundError, and ValueError naming the line of one that is broken."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path} yet; rftlab.feedback.log writes it, one line a served answer")
    entries = []
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}); expected what rftlab.feedback.log writes") from error
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        try:
            entry = json.loads(line)
            entry["prompt"], entry["completion"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} of {path} is no entry ({error}); expected what rftlab.feedback.log writes") from error
        entries.append(entry)
    return entries


def rewards(entries, verify) -> list[float]:
    """The reward of each entry whose right answer is known, in order."""
    task = OwnTask("own", verify, (), ())
    return [task.reward(e["completion"], Problem(e["prompt"], str(e["answer"]), info=e.get("info", {}))) for e in entries if "answer" in e]


def next_examples(path, verify=None, known=()) -> tuple[list[dict], list[str]]:
    """(rows, unanswered): failed prompts with a known answer, each once, ready for training; and those that lack the answer.

    Failed: disliked, or paid less than a right answer by `verify`. known: prompts to leave out, the held-out ones above all.
    """
    entries, seen = read(path), {normal(one) for one in known}
    rows, unanswered = [], []
    for entry in entries:
        failed = entry.get("liked") is False
        if not failed and verify is not None and "answer" in entry:
            failed = rewards([entry], verify)[0] < rewards([{**entry, "completion": str(entry["answer"])}], verify)[0]
        if not failed or normal(entry["prompt"]) in seen:
            continue
        seen.add(normal(entry["prompt"]))
        if "answer" in entry:
            rows.append({**entry.get("info", {}), "prompt": entry["prompt"], "answer": str(entry["answer"]), "source": "served"})
        else:
            unanswered.append(entry["prompt"])
    if rows:
        data.parse(rows).usable()
    return rows, unanswered


def drift(path, verify, before: Estimate, bounds=(0.0, 1.0)) -> tuple[bool, Estimate]:
    """(drifted, served): whether the interval of the served rewards lies wholly below that of the evaluation.

    Below: the questions changed, or what is served is not what was evaluated. Raises ValueError where no answer is known.
    """
    values = rewards(read(path), verify)
    if not values:
        raise ValueError(f"{path} has no entry with a known answer, so that nothing can be graded; log some with answer=...")
    served = bootstrap(values, bounds=bounds)
    return served.high < before.low, served
