"""Before beside after: accuracy with intervals, samples, speed, memory, what else the model could do, other wordings; as one HTML page.

    python -m rftlab report tiny build/workflow/merged --data held-out.jsonl --reward mine.py:right --out report.html
"""
import html
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from rftlab.evaluate import Estimate, bootstrap, bounds_of, difference
from rftlab.monitor import peak_memory_mb
from rftlab.tasks import Problem

# The same question as somebody else would type it.
WORDINGS = {"lower case": str.lower, "upper case": str.upper, "blanks around": lambda p: f"  {p}  \n", "please": lambda p: f"Please: {p}",
            "question and answer": lambda p: f"Question: {p}\nAnswer:"}
# What an instruct model of any size should still know after it was trained on something else.
GENERAL = (("What is the capital of France?", "paris"), ("What colour is the sky on a clear day?", "blue"),
           ("How many days are in a week?", "7|seven"), ("What is the opposite of hot?", "cold"), ("Who wrote Romeo and Juliet?", "shakespeare"),
           ("What do bees make?", "honey"), ("Which planet do we live on?", "earth"), ("What is frozen water called?", "ice"),
           ("What is the first month of the year?", "january"), ("Which animal barks?", "dog"), ("What is H2O?", "water"),
           ("In which country is Rome?", "italy"))


@dataclass
class Comparison:
    """tables: title -> [(what, before, after, difference)], Estimates of the same problems. numbers: [(what, before, after)]."""

    title: str
    tables: dict = field(default_factory=dict)
    numbers: list = field(default_factory=list)
    samples: list = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.title]
        for title, rows in self.tables.items():
            lines += [title] + [f"  {what}: {before} -> {after}, difference {gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
                                for what, before, after, gap in rows]
        return "\n".join(lines)

    def save(self, path) -> Path:
        """Write one HTML file that needs nothing else."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_page(self), encoding="utf-8")
        return path


def general_reward(completion, problem) -> float:
    """1.0 where one of the accepted words stands in the completion."""
    return float(any(word in completion.lower() for word in problem.answer.split("|")))


def compare(before, after, task, problems, *, regression=None, wordings=WORDINGS, max_new_tokens=32, samples=8, title=None) -> Comparison:
    """Measure two policies on the same held-out problems, greedily. `before` and `after` are policies, or functions that load one.

    regression: name -> (reward, problems), what the model should not have lost; GENERAL by default. A function is loaded, measured
    and let go before the other, so that memory is its own. Raises ValueError for no problems.
    """
    if not problems:
        raise ValueError("no held-out problems to compare on; keep some apart (rftlab.own_task does)")
    if regression is None:
        regression = {"general questions": (general_reward, [Problem(q, a) for q, a in GENERAL])}
    sets = {("Held-out problems", task.name): (task.reward, problems)}
    sets |= {("Other wordings of them", name): (task.reward, [replace(p, prompt=_reword(p.prompt, change)) for p in problems])
             for name, change in wordings.items()}
    sets |= {("What it could do before", name): what for name, what in regression.items()}
    sides = [_measure(policy, sets, max_new_tokens) for policy in (before, after)]
    found = Comparison(title or f"{task.name}: {sides[0]['name']} and {sides[1]['name']}")
    for group, name in sets:
        values = [side["rewards"][group, name] for side in sides]
        low, high = bounds_of(*values)
        gap = difference(values[1], values[0], bounds=(low - high, high - low))
        found.tables.setdefault(group, []).append((name, *map(_estimate, values), gap))
    found.numbers = [(what, sides[0][what], sides[1][what]) for what in ("tokens per second", "seconds to load", "peak memory, MB", "parameters, M")]
    first = next(iter(sets))
    found.samples = [(p.prompt, p.answer, *(side["texts"][first][i] for side in sides), *(side["rewards"][first][i] for side in sides))
                     for i, p in enumerate(problems[:samples])]
    return found


def _measure(policy, sets, max_new_tokens) -> dict:
    start = time.perf_counter()
    policy = policy() if callable(policy) else policy
    side = {"name": Path(policy.name).name, "seconds to load": round(time.perf_counter() - start, 1), "rewards": {}, "texts": {},
            "parameters, M": round(sum(p.numel() for p in policy.model.parameters()) / 1e6, 2)}
    tokens, start = 0, time.perf_counter()
    for key, (reward, problems) in sets.items():
        texts = policy.generate([p.prompt for p in problems], max_new_tokens=max_new_tokens)
        side["texts"][key], side["rewards"][key] = texts, [float(reward(t, p)) for t, p in zip(texts, problems, strict=True)]
        tokens += sum(len(policy.tokenizer(t, add_special_tokens=False)["input_ids"]) + 1 for t in texts)
    side["tokens per second"] = round(tokens / (time.perf_counter() - start))
    side["peak memory, MB"] = round(peak_memory_mb())
    return side


def _reword(prompt, change):
    return change(prompt) if isinstance(prompt, str) else [*prompt[:-1], {**prompt[-1], "content": change(prompt[-1]["content"])}]


def _estimate(rewards) -> Estimate:
    return bootstrap(rewards, bounds=bounds_of(rewards))


STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}table{border-collapse:collapse;
width:100%;margin:.5em 0 1.5em}td,th{border-bottom:1px solid #ddd;padding:.35em .6em;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}.up{color:#06703c}.down{color:#a8201a}pre{white-space:pre-wrap;margin:0;font-size:.9em}"""


def _page(found) -> str:
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(found.title)}</title><style>{STYLE}</style>",
             f"<h1>{_text(found.title)}</h1><p>Greedy answers; 95 % intervals; the difference is paired, problem by problem. An interval "
             "that holds 0 is no difference that these problems can show."]
    for title, rows in found.tables.items():
        parts.append(f"<h2>{_text(title)}</h2><table><tr><th><th>before<th>after<th>difference")
        for what, before, after, gap in rows:
            kind = "up" if gap.low > 0 else "down" if gap.high < 0 else ""
            parts.append(f"<tr><td>{_text(what)}<td class=n>{before}<td class=n>{after}<td class='n {kind}'>{gap.mean:+.2f} "
                         f"[{gap.low:+.2f}, {gap.high:+.2f}]")
        parts.append("</table>")
    parts.append("<h2>Cost</h2><table><tr><th><th>before<th>after")
    parts += [f"<tr><td>{_text(what)}<td class=n>{before}<td class=n>{after}" for what, before, after in found.numbers]
    parts.append("</table><h2>Side by side</h2><table><tr><th>prompt<th>answer<th>before<th>after")
    for prompt, answer, one, other, paid, paid_after in found.samples:
        parts.append(f"<tr><td><pre>{_text(prompt)}</pre><td>{_text(answer)}<td><pre>{_text(one)}</pre>reward {paid:g}<td>"
                     f"<pre>{_text(other)}</pre>reward {paid_after:g}")
    return "\n".join([*parts, "</table></html>"]) + "\n"


def _text(value) -> str:
    return html.escape(value if isinstance(value, str) else "\n".join(f"{m['role']}: {m['content']}" for m in value))


def main(given) -> int:
    """The command `report`."""
    from rftlab import data, load_policy
    from rftlab.data_check import verify_from
    from rftlab.own_task import OwnTask

    Path(given.out).parent.mkdir(parents=True, exist_ok=True)  # before the minutes that measuring takes
    problems = data.load(given.data).usable().problems
    task = OwnTask(Path(given.data).stem, verify_from(given.reward), (), tuple(problems))
    found = compare(lambda: load_policy(given.before), lambda: load_policy(given.after), task, problems, max_new_tokens=given.max_new_tokens)
    print(found)
    print(f"report: {found.save(given.out)}")
    return 0
