"""From the records of data-size to the numbers of notebook 04 and of the README: curves, differences, costs.

Whatever records exist are used, and every number says from how many seeds it is. `base` needs no record of its own: each run
measured the untrained policy too.
"""
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from rftlab import records
from rftlab.evaluate import Estimate
from rftlab.significance import Paired, holm, over_seeds, paired

ARMS = ("base", "few-shot", "sft-answers", "sft-solutions", "rft", "rft-random", "rft-format", "rejection", "sft-rft")
SFT = ("sft-answers", "sft-solutions")
SOURCE = {"tiny": 0, "smollm2": 1}  # order of the models in tables


class Report:
    """The runs of one experiment, by (model, task, arm, size) and seed."""

    def __init__(self, runs):
        self.runs = list(runs)
        self.cells = defaultdict(dict)
        for run in self.runs:
            self.cells[run.model, run.task, run.arm, run.size][run.seed] = run

    @classmethod
    def load(cls, experiment="data-size", folder=None) -> "Report":
        """The report on data/results/<experiment>; FileNotFoundError when it has no records."""
        return cls(records.load_all(experiment, folder))

    def groups(self) -> list[tuple[str, str]]:
        """The (model, task) pairs that have trained runs, tiny first."""
        found = {(model, task) for model, task, arm, size in self.cells if arm != "base"}
        return sorted(found, key=lambda g: (SOURCE.get(g[0], 2), g[0], g[1]))

    def sizes(self, model, task, arm=None) -> list[int]:
        return sorted({s for m, t, a, s in self.cells if (m, t) == (model, task) and a != "base" and arm in (None, a)})

    def arms(self, model, task, size=None) -> list[str]:
        """The arms with runs of this model and task, and of this size if one is given, in the usual order; base is always one."""
        found = {a for m, t, a, s in self.cells if (m, t) == (model, task) and size in (None, s)}
        return ["base", *(a for a in ARMS[1:] if a in found)]

    def by_seed(self, model, task, arm, size, name="accuracy") -> dict:
        """seed -> the mean of that metric; base repeats the untrained policy's value for every seed of any run there."""
        if arm == "base":
            return {seed: run.final[f"{name}_before"]["mean"] for (m, t, a, s), runs in self.cells.items()
                    if (m, t) == (model, task) and size in (None, s) and a != "base" for seed, run in runs.items()
                    if f"{name}_before" in run.final}
        return {seed: run.final[name]["mean"] for seed, run in self.cells.get((model, task, arm, size), {}).items()
                if name in run.final}

    def step(self, name="accuracy") -> float:
        """The smallest difference that the evaluation can show: one problem."""
        sizes = [run.final[name]["n"] for run in self.runs if name in run.final]
        return 1 / max(sizes) if sizes else 0.005

    def estimate(self, model, task, arm, size, name="accuracy") -> Estimate | None:
        """Mean over seeds and t interval, None without a run."""
        if arm == "base":
            entry = next((r.final[f"{name}_before"] for (m, t, *_), c in self.cells.items() if (m, t) == (model, task)
                          for r in c.values() if f"{name}_before" in r.final), None)
            return entry and Estimate.from_dict(entry)  # one policy: its interval is over problems
        values = list(self.by_seed(model, task, arm, size, name).values())
        bounds = (0, 20) if name.endswith("loss") else (0, 1)
        return over_seeds(values, self.step(name), bounds) if values else None

    def curve(self, model, task, arm, name="accuracy") -> tuple[list[int], list[Estimate]]:
        sizes = self.sizes(model, task, arm)
        return sizes, [self.estimate(model, task, arm, size, name) for size in sizes]

    def differences(self, model, task, size, arm, other, name="accuracy") -> list[float]:
        """arm - other at one size, one number for each seed that both have."""
        first, second = self.by_seed(model, task, arm, size, name), self.by_seed(model, task, other, size, name)
        return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]

    def better_sft(self, model, task, size) -> str | None:
        """The SFT arm with the higher mean validation accuracy at that size: the opponent chosen without the test problems."""
        found = [(mean(best_validation(r) for r in runs.values()), arm) for arm in SFT
                 if (runs := self.cells.get((model, task, arm, size)))]
        return max(found)[1] if found else None

    def seeds(self, **axes) -> tuple[int, int]:
        """The fewest and the most seeds among the cells that train, base and few-shot left out."""
        counts = [len(runs) for (m, t, a, s), runs in self.cells.items() if a not in ("base", "few-shot")
                  and axes.get("model") in (None, m) and axes.get("task") in (None, t)]
        return (min(counts), max(counts)) if counts else (0, 0)


@dataclass(frozen=True)
class Comparison:
    """`arm` minus `other` in one cell, and its p after Holm's correction over all comparisons made with it."""

    model: str
    task: str
    size: int
    other: str
    test: Paired
    p_holm: float

    @property
    def verdict(self) -> str:
        if self.test.n < 2:
            return "one seed"
        if self.p_holm >= 0.05:
            return "no difference shown"
        return "better" if self.test.mean > 0 else "worse"


def comparisons(report, arm="rft", name="accuracy") -> list[Comparison]:
    """The arm against each other arm at the same model, task and size, paired by seed, corrected over all of them."""
    found = []
    for model, task in report.groups():
        for size in report.sizes(model, task, arm):
            for other in report.arms(model, task, size):
                values = report.differences(model, task, size, arm, other, name) if other != arm else []
                if values:
                    found.append((model, task, size, other, paired(values, report.step(name))))
    adjusted = holm([test.p for *_, test in found])
    return [Comparison(*one, p) for one, p in zip(found, adjusted, strict=True)]


# --- what a run cost ----------------------------------------------------------------------------------------------------

def best_validation(run) -> float:
    """The best validation accuracy of a run: what its early stopping went back to. Without an evaluation: before training."""
    values = run.curve("accuracy")[1]
    return max(values, default=run.final["accuracy_before"]["mean"])


def costs(run) -> list[tuple[float, float]]:
    """(seconds, tokens) used up to and with each step, evaluation left out; tokens sampled or imitated, prompts left out."""
    config, total = run.config, [run.notes.get("seconds_sampling", 0.0), float(run.notes.get("tokens_sampled", 0))]
    out = []
    for m in run.metrics:
        sampled = "seconds_rollout" in m
        per_step = config.get("prompts_per_step", 8) * (config.get("group_size", 8) if sampled else 1)
        total[0] += sum(m.get(k) or 0.0 for k in ("seconds_rollout", "seconds_reward", "seconds_update"))
        total[1] += m.get("length", 0.0) * per_step
        out.append(tuple(total))
    return out


def best_within(run, seconds=float("inf"), tokens=float("inf")) -> float:
    """The best validation accuracy that the run had reached when this much was used; before training if none came in time."""
    reached = [m["accuracy"] for m, (s, t) in zip(run.metrics, costs(run), strict=True)
               if m.get("accuracy") is not None and s <= seconds and t <= tokens]
    return max(reached, default=run.final["accuracy_before"]["mean"])


def total_cost(run) -> tuple[float, float]:
    """(seconds, tokens) of the whole training."""
    return costs(run)[-1] if run.metrics else (run.notes.get("seconds_sampling", 0.0), run.notes.get("tokens_sampled", 0.0))


def equal_compute(report, model, task, size, arm="rft") -> list[dict]:
    """Each arm's best validation accuracy within the seconds, and within the tokens, that the arm's run of the same seed took.

    A row an arm: arm, n, seconds and tokens (medians of its whole run), and `in_seconds`, `in_tokens` (estimates).
    """
    budget = {seed: total_cost(run) for seed, run in report.cells.get((model, task, arm, size), {}).items()}
    rows = []
    for other in report.arms(model, task, size):
        runs = {s: r for s, r in report.cells.get((model, task, other, size), {}).items() if s in budget and r.metrics}
        if not runs:
            continue
        spent = [total_cost(r) for r in runs.values()]
        rows.append({"arm": other, "n": len(runs), "seconds": median(s for s, _ in spent), "tokens": median(t for _, t in spent),
                     "in_seconds": over_seeds([best_within(r, seconds=budget[s][0]) for s, r in runs.items()], 0.01),
                     "in_tokens": over_seeds([best_within(r, tokens=budget[s][1]) for s, r in runs.items()], 0.01)})
    return rows


# --- what kind of gain it is --------------------------------------------------------------------------------------------

def format_share(report, model, task, arm, size) -> float | None:
    """The part of the gain in accuracy that is format only, by the formula of the grid file, on means over seeds.

    None where nothing was gained (less than one problem), or where nothing was well formed before.
    """
    now = {k: mean(v.values()) for k in ("accuracy", "well_formed") if (v := report.by_seed(model, task, arm, size, k))}
    old = {k: mean(v.values()) for k in ("accuracy", "well_formed") if (v := report.by_seed(model, task, "base", size, k))}
    if len(now) < 2 or len(old) < 2 or now["accuracy"] - old["accuracy"] < report.step() or not old["well_formed"]:
        return None
    return ((now["well_formed"] - old["well_formed"]) * old["accuracy"] / old["well_formed"]) / (now["accuracy"] - old["accuracy"])


def rows_needed(report, model, task, arm, share=0.9) -> int | None:
    """The smallest size at which the arm has this share of the gain of its best size; None when it never gains 10 points."""
    sizes = report.sizes(model, task, arm)
    gains = {s: mean(d) for s in sizes if (d := report.differences(model, task, s, arm, "base"))}
    best = max(gains.values(), default=0.0)
    return None if best < 0.10 else min(s for s, gain in gains.items() if gain >= share * best)


# --- the README's block -------------------------------------------------------------------------------------------------

def table(report, model, task) -> list[str]:
    """Held-out accuracy in markdown: a row an arm, a column a size, mean and half the width of the t interval."""
    sizes = report.sizes(model, task)
    lines = [f"| {task}, `{model}` | " + " | ".join(f"n = {s}" for s in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for arm in report.arms(model, task):
        cells = [report.estimate(model, task, arm, None if arm == "base" else size) for size in sizes]
        lines.append(f"| {arm} | " + " | ".join(shown(e, arm) for e in cells) + " |")
    return lines


def shown(estimate, arm="") -> str:
    """"0.98 ± 0.01"; without an interval for a single seed, "" for none."""
    if estimate is None:
        return ""
    if arm == "base" or estimate.n < 2:
        return f"{estimate.mean:.2f}"
    return f"{estimate.mean:.2f} ± {max(estimate.high - estimate.mean, estimate.mean - estimate.low):.2f}"


def summary(report) -> str:
    """What came out, in markdown: one table a task, and from how many runs."""
    blocks = ["\n".join(table(report, *group)) for group in report.groups()]
    evaluated = report.runs[0].final["accuracy"]["n"]
    device = "; ".join(sorted({run.device for run in report.runs}))
    models = dict.fromkeys(model for model, task in report.groups())
    seeds = ", ".join(f"{low if low == high else f'{low} to {high}'} on `{model}`" for model in models
                      for low, high in [report.seeds(model=model)])
    labels = {run.model: run.config["eval_problems"].split()[0] for run in report.runs if run.config.get("eval_problems")}
    validated = ", ".join(f"{n} on `{model}`" for model, n in sorted(labels.items(), reverse=True))
    return "\n\n".join([*blocks, f"Held-out accuracy, greedy, {evaluated} problems; mean ± half of its 95 % t interval over seeds, "
                                  f"{seeds}; no interval where there is one seed. Every arm that trains, the coin too, goes back to its best step on "
                                  f"validation problems ({validated}), whose labels n does not count. {len(report.runs)} runs on {device}."])


def publish(root=None) -> None:
    """Write the block of README.md anew from the records of a clone."""
    root = Path(root or records.results_folder().parents[1])
    records.publish("data-size", summary(Report.load(folder=root / "data" / "results")), root / "README.md")
