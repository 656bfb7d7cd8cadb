"""Records in data/results are whole, and the numbers of the README are those of the records."""
import json
from pathlib import Path

import pytest

from rftlab import bench, grids, headline, kernel_report, records
from rftlab.notebooks import ROOT

RESULTS = ROOT / "data" / "results"
MEASURED = {"bench", "memory", "turbo"}  # of this machine, not runs of a grid; tests of their own read them
EXPERIMENTS = sorted(p.name for p in RESULTS.iterdir() if p.is_dir() and p.name not in MEASURED)


def readme_block(name):
    text = (ROOT / "README.md").read_text()
    return text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_record_says_what_made_it(name):
    """Each record belongs to a point of the grid and fits it. A thousand of them are one test, which names the odd ones."""
    grid = grids.load(name)
    points = {grid.path(point).name: point for point in grid.points}
    odd = {}
    for path in (RESULTS / name).glob("*.json"):
        if trouble := what_is_odd(records.RunRecord.load(path), name, points.get(path.name)):
            odd[path.name] = trouble
    assert odd == {}


def what_is_odd(run, name, point) -> list[str]:
    if point is None:
        return ["no point of the grid has this file name"]
    fields = {axis: getattr(run, axis, run.config.get(axis)) for axis in point}
    checks = {
        "is of another experiment": run.experiment == name,
        f"says {fields} for {point}": fields == point,
        "does not say what made it": run.commit and run.device and run.versions["torch"] and run.started and run.seconds >= 0,
        "misses steps": [m["step"] for m in run.metrics] == list(range(1, len(run.metrics) + 1)),
        "trained in no time": run.seconds > 0 or not run.metrics,
        "measured nothing": "accuracy" in run.final,
        "has an estimate outside its interval": all(e["low"] <= e["mean"] <= e["high"] and e["n"] > 0 for e in run.final.values()),
    }
    return [what for what, fine in checks.items() if not fine]


def test_an_odd_record_is_noticed():
    """The same record, spoilt in one place at a time."""
    path = next((RESULTS / "headline").glob("*.json"))
    point = next(p for p in grids.load("headline").points if grids.load("headline").path(p).name == path.name)
    assert what_is_odd(records.RunRecord.load(path), "headline", point) == []
    spoilt = {"experiment": "another", "arm": "another", "seed": 99, "commit": "", "device": "", "started": "", "metrics": [{"step": 2}],
              "seconds": 0.0, "final": {"accuracy": {"mean": 0.5, "low": 0.6, "high": 0.7, "n": 9}}}
    for name, value in {**spoilt, "final ": {}}.items():
        run = records.RunRecord.load(path)
        setattr(run, name.strip(), value)
        assert len(what_is_odd(run, "headline", point)) == 1, name
    assert what_is_odd(run, "headline", None) == ["no point of the grid has this file name"]


def test_the_headline_is_as_promised():
    """At least three seeds, 100 prompts, 200 test problems, and at least 60 % in at most 30 minutes a seed."""
    runs = [r for r in records.load_all("headline") if r.arm == "rft"]
    assert len({r.seed for r in runs}) >= 3
    for run in runs:
        assert run.size == 100 and run.final["accuracy"]["n"] == 200 and run.seconds <= 1800
        assert run.final["accuracy"]["mean"] >= 0.60 > 0.15 > run.final["accuracy_before"]["mean"]


def test_the_careless_bonus_is_a_detour():
    """At step 20 nearly all answers are bare numbers and paid well, and fewer of them are right than without the bonus."""
    runs = {(r.arm, r.seed): r for r in records.load_all("headline")}
    heavy = [run for (arm, _), run in runs.items() if arm == "rft-format-heavy"]
    assert len(heavy) >= 3
    for run in heavy:
        first, there = run.metrics[0], run.metrics[19]
        assert there["reward_parts/number_only"] > 0.9 and there["reward"] > first["reward"] + 0.5
        assert there["accuracy"] < runs["rft", run.seed].metrics[19]["accuracy"] - 0.1


def test_the_kernel_writer_gets_as_far_as_the_readme_says():
    """From at most 0.10 to the slides' 0.53 within the hour, every seed; 0.80 with the best recipe; nothing under the slides' ladder."""
    runs = records.load_all("kernel-longer")
    assert {run.seed for run in runs} == {0, 1, 2}
    for run in runs:
        assert run.final["accuracy_before"]["mean"] <= 0.10 < 0.53 <= run.final["accuracy"]["mean"] and run.seconds <= 3600
    for passes, reward, low, high in ((8, "correct", 0.80, 1.0), (3, "ladder", 0.0, 0.0)):
        ends = [r.final["accuracy"]["mean"] for r in records.load_all("kernel-grpo")
                if (r.arm, r.config["passes"], r.config["reward"]) == ("rft", passes, reward)]
        assert len(ends) == 3 and all(low <= end <= high for end in ends)


def test_readme_shows_the_records():
    assert readme_block("headline") == headline.summary(records.load_all("headline"))
    kernels = kernel_report.load() + kernel_report.load("kernel-longer")
    assert readme_block("kernels") == kernel_report.summary(kernel_report.by_recipe(kernels))


def test_readme_shows_the_bench():
    rows = [row for name in ("step", "rollout", "kernel-step", "turbo") for row in json.loads((RESULTS / "bench" / f"{name}.json").read_text())["rows"]]
    assert bench.table(rows) in readme_block("bench")


def test_the_log_has_an_entry_for_every_experiment():
    log = (RESULTS / "LOG.md").read_text()
    for name in EXPERIMENTS:
        assert f"`{name}`" in log
    assert "(negative)" in log
