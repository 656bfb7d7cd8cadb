"""What is wrong with a file of examples, before a run finds out: faults, duplicates, leaks, a verifier that errs, prompts too long.

    report = check(load("mine.jsonl"), test=load("held-out.jsonl"), verify=right, policy=policy, max_prompt_tokens=512)
    print(report)            # one line a finding, with the line number in the file
    report.plot()            # lengths and openings
"""
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rftlab.own_task import OwnTask, fragile, normal, own_line

SHOWN = 5  # findings of one kind that are printed; `findings` has all


@dataclass(frozen=True)
class Finding:
    """kind: fault, empty, duplicate, contradiction, leak, rejected, gullible, fragile, long, silent. line: 0 where it is about the whole file."""

    kind: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: " + (f"line {self.line}, " if self.line and self.kind != "fault" else "") + self.text


@dataclass
class DataReport:
    """What was found. lengths: tokens (or words, without a policy) of each prompt. openings: the commonest first three words, any number written #."""

    source: str
    rows: int
    formats: dict
    unit: str
    lengths: list
    openings: list
    distinct: float
    findings: list = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings

    def of(self, kind) -> list:
        return [one for one in self.findings if one.kind == kind]

    def __str__(self) -> str:
        faults = len(self.of("fault"))
        lines = [f"{self.source}: {self.rows} rows ({', '.join(f'{n} {k}' for k, n in self.formats.items()) or 'none'})"
                 + (f", {faults} lines that cannot be used" if faults else "")]
        if self.lengths:
            lines.append(f"prompts: {min(self.lengths)} to {max(self.lengths)} {self.unit}, median {median(self.lengths):g}; "
                         f"{self.distinct:.0%} of word pairs differ; commonest opening {self.openings[0][0]!r} ({self.openings[0][1]} times)")
        for kind in dict.fromkeys(one.kind for one in self.findings):
            some = self.of(kind)
            lines += [f"  {one}" for one in some[:SHOWN]] + ([f"  {kind}: {len(some) - SHOWN} more"] if len(some) > SHOWN else [])
        return "\n".join([*lines, "nothing wrong was found" if self.ok else f"{len(self.findings)} findings"])

    def plot(self, ax=None):
        """Two pictures: how long the prompts are, how they begin. Returns the two Axes."""
        from rftlab import plots

        import matplotlib.pyplot as plt

        left, right = ax or plt.subplots(1, 2, figsize=(9, 3), layout="constrained")[1]
        first, last = min(self.lengths), max(self.lengths)
        wide = max(1, -(-(last - first + 1) // 30))  # whole tokens a bar, at most 30 bars
        left.hist(self.lengths, bins=range(first, last + wide + 1, wide), align="left" if wide == 1 else "mid",
                  color=plots.colour("rft", 0), alpha=0.85)
        left.xaxis.get_major_locator().set_params(integer=True)
        left.set(xlabel=f"{self.unit} in a prompt", ylabel="prompts", title="Lengths")
        names, counts = zip(*self.openings[:8][::-1])
        right.barh(range(len(names)), counts, color=plots.colour("base", 1), alpha=0.85)
        right.set_yticks(range(len(names)), names, fontsize=8)
        right.set(xlabel="prompts", title=f"Openings; {self.distinct:.0%} of word pairs differ")
        return left, right


def check(examples, test=None, verify=None, policy=None, max_prompt_tokens=None) -> DataReport:
    """Look at examples, against held-out ones and with a verifier where given. verify(completion, problem) is the reward.

    rejected: the right answer earns no more than silence. gullible: another row's answer earns as much as the right one.
    fragile: a string on which the reward fails. silent: no answer and no completion, so that a verifier has nothing to compare with.
    """
    found = [Finding("fault", one.line, str(one)) for one in examples.faults]
    found += [Finding("empty", 0, f"{one.source} holds no example") for one in (examples, test) if one is not None and not one.rows + one.faults]
    found += _repeated(examples.rows)
    if test is not None:
        found += [Finding("fault", one.line, f"held-out {one}") for one in test.faults] + _leaks(examples.rows, test.rows)
    found += [Finding("silent", row.line, "has neither an answer nor a completion") for row in examples.rows
              if not row.problem.answer and not row.problem.info]
    if verify is not None and examples.rows:
        found += _verified(examples.rows, verify)
    prompts = [normal(row.problem.prompt).split() for row in examples.rows]
    lengths = [len(words) for words in prompts]
    if policy is not None:
        lengths = [len(policy.tokenizer(policy.render(row.prompt), add_special_tokens=False)["input_ids"]) for row in examples.rows]
        limit = max_prompt_tokens or getattr(policy.model.config, "max_position_embeddings", None)
        found += [Finding("long", row.line, f"{n} tokens in the model's chat template, at most {limit}")
                  for row, n in zip(examples.rows, lengths) if limit and n > limit]
    pairs = [pair for words in prompts for pair in zip(words, words[1:])]
    openings = Counter(re.sub("[0-9]+", "#", " ".join(words[:3])) for words in prompts).most_common()
    return DataReport(examples.source, len(examples.rows), dict(Counter(row.format for row in examples.rows)),
                      "words" if policy is None else "tokens", lengths, openings, len(set(pairs)) / max(1, len(pairs)), found)


def _bag(row) -> tuple:
    """Equal for prompts of the same words in any order."""
    return tuple(sorted(normal(row.problem.prompt).split()))


def _repeated(rows) -> list[Finding]:
    found, first = [], {}
    for row in rows:
        before = first.setdefault(normal(row.problem.prompt), row)
        if before is not row:
            same = before.problem.answer == row.problem.answer
            found.append(Finding("duplicate" if same else "contradiction", row.line, f"asks what line {before.line} asks" + (
                "" if same else f", and says {row.problem.answer!r:.40} where that says {before.problem.answer!r:.40}")))
    return found


def _leaks(rows, held_out) -> list[Finding]:
    exact, words = {normal(r.problem.prompt): r.line for r in rows}, {_bag(r): r.line for r in rows}
    found = []
    for row in held_out:
        same, like = exact.get(normal(row.problem.prompt)), words.get(_bag(row))
        if same or like:
            found.append(Finding("leak", row.line, f"of the held-out file asks {'what' if same else 'in other order what'} line {same or like} "
                                                   "of the training file asks"))
    return found


def _verified(rows, verify) -> list[Finding]:
    problems, found = [row.problem for row in rows], []
    task = OwnTask("own", verify, (), ())
    for row, problem, other in zip(rows, problems, problems[1:] + problems[:1]):
        right = problem.solution or problem.answer
        if not right:
            continue
        try:
            silence, paid = task.reward("", problem), task.reward(right, problem)
            wrong = other.solution or other.answer
            if paid <= silence:
                found.append(Finding("rejected", row.line, f"the answer {right!r:.40} earns {paid:g}, silence {silence:g}"))
            elif wrong and other.answer != problem.answer and task.reward(wrong, problem) >= paid:
                found.append(Finding("gullible", row.line, f"the answer of another row, {wrong!r:.40}, earns as much as the right one, {paid:g}"))
        except ValueError as error:
            found.append(Finding("rejected", row.line, str(error).splitlines()[0]))
    return found + [Finding("fragile", 0, text) for text in fragile(verify, problems)]


def verify_from(name):
    """A reward from the command line: "arithmetic" and other tasks of the course, or "file.py:function". ValueError otherwise."""
    import importlib.util

    from rftlab import tasks

    if name in tasks.NAMES:
        return tasks.load_task(name).reward
    path, _, function = name.rpartition(":")
    own = "own_reward" + re.sub(r"\W", "_", str(Path(path).resolve()))  # one module a file, so that two rewards stay apart
    spec = importlib.util.spec_from_file_location(own, path) if path.endswith(".py") else None
    if spec is None:
        raise ValueError(f"{name!r} is no reward; expected one of {', '.join(tasks.NAMES)}, or file.py:function")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path} (looked for in {Path.cwd()}); expected file.py:function")
    module, folder = importlib.util.module_from_spec(spec), str(Path(path).resolve().parent)
    sys.modules[own] = module  # where @dataclass looks up the names in its annotations
    sys.path.insert(0, folder)  # it may import what lies beside it, as with `python mine.py`
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        at = own_line(error, path)
        sys.modules.pop(own, None)
        raise ValueError(f"{path} cannot be run{at}: {type(error).__name__}: {error}; mend it, and try it with `python {path}`") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)  # by name: the file may have put entries of its own before it
    if folder not in sys.path:
        sys.path.append(folder)  # it may import while it grades, too; at the end, so that nothing else is hidden
    if not callable(getattr(module, function, None)):
        raise ValueError(f"{path} has no function {function!r}; expected one of the form {function or 'reward'}(completion, problem)")
    return getattr(module, function)
