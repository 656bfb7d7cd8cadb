"""What the records of the kernel writer say: before and after, curves by rung of the ladder, what was learnt when, verdicts.

Functions of run records (`rftlab.kernel_grpo`), and nothing else. Where nothing is recorded they return nothing. One seed has
the interval of its evaluation, over functions; several have a t interval over seeds, and differences are paired by seed.
"""
import ast
import itertools
import textwrap
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from rftlab import evaluate, grids, records, significance

STAGES = ("format", "rules", "compile", "run", "wrong", "correct")  # where a completion ends; see rftlab.kernels.grader
RUNGS = ("is Python", "keeps the rules", "compiles", "runs", "is right")  # what it has come past, in the same order


def load(experiment="kernel-grpo", folder=None) -> list:
    """The records of an experiment, [] where there is none."""
    try:
        return records.load_all(experiment, folder)
    except FileNotFoundError:
        return []


def progress(folder=None) -> dict[str, tuple[int, int]]:
    """experiment -> (runs that are planned, runs that are recorded), for every grid about kernels."""
    found = {}
    for path in sorted(grids.folder().glob("kernel-*.toml")):
        grid = grids.load(path.stem)
        found[path.stem] = len(grid.points), sum(grid.path(point, folder).is_file() for point in grid.points)
    return found


def by_recipe(runs) -> dict[str, list]:
    """Runs that differ in nothing but their seed, together; the trained ones first, shorter warm-ups before longer ones."""
    found = {}
    for run in sorted(runs, key=lambda r: (r.arm == "base", r.config["passes"], r.arm, recipe(r), r.seed)):
        found.setdefault(recipe(run), []).append(run)
    return found


def recipe(run) -> str:
    """What was done, in words: "12 passes, 80 steps of GRPO paid by ladder at 5e-05"; the rate is that of GRPO."""
    if run.arm == "base":
        return "no training"
    c = run.config
    steps = c["steps"] // 2 if run.arm == "rejection-rft" else c["steps"]
    done = [f"{c['passes']} passes"]
    if run.arm.startswith("rejection"):
        done.append(f"{steps // c['round']} rounds of rejection sampling")
    if "rft" in run.arm:
        turns = " with second turns" if run.arm == "rft-repair" else ""
        done.append(f"{steps} steps of GRPO{turns} paid by {c['reward']} at {c['lr']:g}")
    if c.get("operations"):
        done.append(f"at most {c['operations']} operations")
    if c.get("seeded"):
        done.append(f"{c['seeded']} examples cheat")
    return ", ".join(done)


@dataclass(frozen=True)
class Level:
    """A metric of one recipe: its mean over `seeds` runs of `n` functions each, and the interval that the module describes."""

    mean: float
    low: float
    high: float
    seeds: int
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def level(runs, name) -> Level | None:
    """The level of final[name]; None where a run has not measured it."""
    found = [run.final.get(name) for run in runs]
    if not found or None in found:
        return None
    if len(found) == 1:
        return Level(found[0]["mean"], found[0]["low"], found[0]["high"], 1, found[0]["n"])
    n = min(one["n"] for one in found)
    over = significance.over_seeds([one["mean"] for one in found], floor=1 / n)
    return Level(over.mean, over.low, over.high, len(found), n)


def verdict(runs, name, other) -> str:
    """How final[name] stands to final[other]: "higher", "lower", or "no difference shown"; "not measured" where one is missing.

    Several seeds: a paired t test at 5 %. One seed: the interval of the difference, function by function; where the record does
    not keep those, whether the two intervals lie apart, which is stricter.
    """
    a, b = level(runs, name), level(runs, other)
    if a is None or b is None:
        return "not measured"
    if a.seeds > 1:
        test = significance.paired([run.final[name]["mean"] - run.final[other]["mean"] for run in runs], floor=1 / a.n)
        low, high = test.low, test.high
    elif {name, other} <= (kept := runs[0].notes.get("outcomes", {})).keys():
        test = evaluate.difference(kept[name], kept[other])
        low, high = test.low, test.high
    else:
        low, high = a.low - b.high, a.high - b.low
    return "higher" if low > 0 else "lower" if high < 0 else "no difference shown"


def difference(runs, plain, name="accuracy") -> significance.Paired | None:
    """final[name] of runs minus that of plain ones, paired by seed; None where they have no seed in common."""
    theirs = {run.seed: run.final[name]["mean"] for run in plain}
    values = [run.final[name]["mean"] - theirs[run.seed] for run in sorted(runs, key=lambda r: r.seed) if run.seed in theirs]
    return significance.paired(values, floor=1 / runs[0].final[name]["n"]) if values else None


def differences(changed, plain, name="accuracy") -> dict[str, significance.Paired]:
    """change -> `difference` to the unchanged runs, of an experiment that names its changes."""
    found = {}
    for run in changed:
        found.setdefault(run.config["change"] if run.config["change"] != "arm" else run.arm, []).append(run)
    tests = {change: difference(runs, plain, name) for change, runs in found.items()}
    return {change: test for change, test in tests.items() if test}


def one_apart(recipes, name, metric="accuracy") -> dict[str, significance.Paired]:
    """setting -> `difference` to recipe `name`, of each recipe that differs from it in that setting alone; the arm is one, too."""
    found, own = {}, recipes[name][0].config
    for runs in recipes.values():
        changed = [k for k in own if k != "seed" and own[k] != runs[0].config.get(k)]
        if len(changed) == 1 and (test := difference(runs, recipes[name], metric)):
            found[f"{changed[0]} {runs[0].config[changed[0]]}, not {own[changed[0]]}"] = test
    return found


def families(runs, name="accuracy") -> list[str]:
    """The families that final[name] is broken up into."""
    starts = f"{name}_"
    return sorted({key.removeprefix(starts) for run in runs for key in run.final if key.startswith(starts) and not key.endswith("before")})


def of_k(runs) -> str:
    """The name of pass@k in these runs, for the k that was sampled."""
    return f"pass@{min(run.config['samples'] for run in runs)}"


# --- curves ---------------------------------------------------------------------------------------------------------------

def curve(runs, name, smooth=1) -> tuple[list, list]:
    """(GRPO steps from 1, mean over seeds) of a metric at the steps that all runs have measured, averaged over `smooth` of them."""
    tables = []
    for run in runs:
        steps = [m for m in run.metrics if m.get("phase") not in ("sft", "sample")]
        tables.append({i: m[name] for i, m in enumerate(steps, 1) if m.get(name) is not None})
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    values = [mean(table[step] for table in tables) for step in shared]
    return shared, [mean(values[max(0, i - (smooth - 1) // 2):i + smooth // 2 + 1]) for i in range(len(values))]


def shares(runs, smooth=1) -> tuple[list, dict[str, list]]:
    """(steps, stage -> share of the completions that ended there)."""
    found = {stage: curve(runs, f"share_{stage}", smooth) for stage in STAGES}
    return found["correct"][0], {stage: values for stage, (_, values) in found.items()}


def passed(by_stage) -> dict[str, list]:
    """rung -> share of the completions that came past it: all that ended at a later stage."""
    return {rung: [sum(at) for at in zip(*(by_stage[s] for s in STAGES[i + 1:]))] for i, rung in enumerate(RUNGS)}


def learnt(values, share, window=5) -> int | None:
    """The first step from which `window` steps have at least this share on average; None where there is none."""
    starts = range(len(values) - window + 1)
    return next((i + 1 for i in starts if mean(values[i:i + window]) >= share), None)


def ends(values, window=5) -> tuple[float, float]:
    """The means of the first and of the last `window` values."""
    return mean(values[:window]), mean(values[-window:])


def stood_still(runs, window=5) -> str:
    """Whether the reward grew by right kernels or on the rung below, as one sentence; "" without a curve."""
    by_stage, reward = shares(runs)[1], curve(runs, "reward")[1]
    if not reward:
        return ""
    (right, right_now), (wrong, wrong_now), (paid, paid_now) = (ends(v, window) for v in (by_stage["correct"], by_stage["wrong"], reward))
    said = f"reward {paid:.2f} -> {paid_now:.2f}, right {right:.2f} -> {right_now:.2f}, runs and is wrong {wrong:.2f} -> {wrong_now:.2f}: "
    if right_now <= right / 2 and right > 0 and wrong_now > wrong:  # less than half lost may be chance, between so few steps
        return said + "what was right was lost to the comfortable rung, kernels that run and are wrong"
    if paid_now <= paid:
        return said + "the reward did not rise"
    only_right = all(run.config["reward"] == "correct" for run in runs)  # whatever else grew, it was not paid
    if only_right or right_now - right > max(0.0, wrong_now - wrong):
        return said + "it rose by kernels that are right"
    return said + "it rose on the comfortable rung, by kernels that run and are wrong"


def minutes(runs) -> dict[str, float]:
    """Minutes a seed by what they were spent on. Rejection sampling does not tell rollouts from grading: both are rollouts here."""
    spent = {"warm-up": 0.0, "rollouts": 0.0, "grading": 0.0, "updates": 0.0}
    for run in runs:
        warm = len(list(itertools.takewhile(lambda m: m.get("phase") == "sft", run.metrics)))
        for i, m in enumerate(run.metrics):
            spent["warm-up" if i < warm else "updates"] += m.get("seconds_update", 0.0)
            spent["rollouts"] += m.get("seconds_rollout", 0.0)
            spent["grading"] += m.get("seconds_reward", 0.0)
    spent["rollouts"] += max(0.0, sum(run.seconds for run in runs) - sum(spent.values()))
    return {name: seconds / 60 / len(runs) for name, seconds in spent.items()}


def summary(recipes, least=3) -> str:
    """What came out, in markdown: one line a recipe of `least` seeds or more, the best first; "" where there is none."""
    found = [runs for runs in recipes.values() if len(runs) >= least and level(runs, "accuracy_before")]
    if not found:
        return ""
    lines = ["| recipe | seeds | right after the warm-up | right at the end, 95 % interval over seeds | of each seed | minutes a seed |",
             "|---|---|---|---|---|---|"]
    for runs in sorted(found, key=lambda runs: -level(runs, "accuracy").mean):
        each = ", ".join(f"{run.final['accuracy']['mean']:.2f}" for run in runs)
        lines.append(f"| {recipe(runs[0])} | {len(runs)} | {level(runs, 'accuracy_before').mean:.2f} | {level(runs, 'accuracy')} | {each} | "
                     f"{sum(minutes(runs).values()):.0f} |")
    n, devices = {level(runs, "accuracy").n for runs in found}, {run.device for runs in found for run in runs}
    return "\n".join(lines) + f"\n\n{', '.join(map(str, sorted(n)))} new functions, greedy; {'; '.join(sorted(devices))}."


def publish(root=None) -> None:
    """Write the block of README.md anew from the records of a clone."""
    root = Path(root or records.results_folder().parents[1])
    runs = [run for name in ("kernel-grpo", "kernel-longer") for run in load(name, root / "data" / "results")]
    records.publish("kernels", summary(by_recipe(runs)), root / "README.md")


# --- what it writes -------------------------------------------------------------------------------------------------------

def stores_an_input(body) -> bool:
    """Whether a kernel's body stores what it has loaded, unchanged: the safe nothing that earns 0.6 under the deck's ladder."""
    try:
        tree = ast.parse(textwrap.dedent(body))
    except SyntaxError:
        return False
    values, stored = {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = node.value
        if _calls(node, "store") and len(node.args) > 1:
            stored.append(node.args[1])
    return bool(stored) and all(_calls(values.get(s.id) if isinstance(s, ast.Name) else s, "load") for s in stored)


def _calls(node, name) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name


def samples(run) -> list[tuple[dict, dict]]:
    """(before, after) for each held-out task whose answers the record keeps: dicts of task, text, stage, reason."""
    kept = run.notes.get("samples", {})
    before = {one["task"]: one for one in kept.get("before", [])}
    return [(before.get(one["task"]), one) for one in kept.get("after", [])]
