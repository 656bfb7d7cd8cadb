"""Records in data/results are whole, and the numbers of the README are those of the records."""
import json
from pathlib import Path

import pytest

from rftlab import bench, headline, records
from rftlab.notebooks import ROOT

RESULTS = ROOT / "data" / "results"
RUNS = sorted(p for p in RESULTS.glob("*/*.json") if p.parent.name != "bench")


def readme_block(name):
    text = (ROOT / "README.md").read_text()
    return text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


@pytest.mark.parametrize("path", RUNS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_record_says_what_made_it(path):
    run = records.RunRecord.load(path)
    assert run.experiment == path.parent.name and path.stem == f"{run.arm}-seed{run.seed}"
    assert run.commit and run.device and run.versions["torch"] and run.started and run.seconds > 0
    assert [m["step"] for m in run.metrics] == list(range(1, len(run.metrics) + 1))
    for estimate in run.final.values():
        assert estimate["low"] <= estimate["mean"] <= estimate["high"] and estimate["n"] > 0


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


def test_readme_shows_the_records():
    assert readme_block("headline") == headline.summary(records.load_all("headline"))


def test_readme_shows_the_bench():
    rows = [row for name in ("step", "rollout") for row in json.loads((RESULTS / "bench" / f"{name}.json").read_text())["rows"]]
    assert bench.table(rows) in readme_block("bench")


def test_the_log_has_an_entry_for_every_experiment():
    log = (RESULTS / "LOG.md").read_text()
    for folder in {path.parent.name for path in RUNS}:
        assert f"`{folder}`" in log
    assert "(negative)" in log
