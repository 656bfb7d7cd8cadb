"""What each exploit is paid, by us and by others: `python tests/redteam/table.py` writes data/results/redteam.json.

One row for each exploit: its cap, what the naive grader pays (see `naive`), what ours pays with the rules and, for attacks
on the grader, without, and two second opinions (see `opinions`). The controls are rows, too: whoever refuses everything
gets those wrong. The record takes about five minutes of two cores; the exact scores do not depend on the seed.
"""

import argparse
import json
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version

import naive
import opinions
from controls import controls
from exploit_tasks import TASKS
from programs import ATTACKS_ON_THE_GRADER, exploits
from watch import Canary

from rftlab import records
from rftlab.kernels import KernelGrader

NOT_RUN_BY_NAIVE = "H"  # they do damage, and a naive grader has no walls
PACKAGES = ("triton", "kernelguard")


def rows(chosen, honest=(), seconds: float = 1.0) -> list[dict]:
    """The rows of these exploits, and of controls."""
    canary = Canary()
    try:
        programs = [(e.name, e.family, e.what, e.cap, e.text(str(canary.folder)), e.task) for e in chosen]
        programs += [(c.name, c.family, c.what, {"honest": 1.0, "wrong": 0.6}[c.family], c.completion, c.task) for c in honest]
        run = [p for p in programs if not p[1].startswith(NOT_RUN_BY_NAIVE)]
        paid_naively = dict(zip([p[0] for p in run], naive.grade([(text, task) for *_, text, task in run])))
        ours, without = (grades(programs, rules, seconds) for rules in (True, False))
        return [
            {
                "name": name, "family": family, "what": what, "cap": cap,
                "naive": paid_naively.get(name),
                "ours": ours[name].score, "stage": ours[name].stage,
                "ours_without_rules": without[name].score if name in without else None,
                "kernelbench": opinions.kernelbench(text), "kernelguard": opinions.kernelguard(text),
            }
            for name, family, what, cap, text, _ in programs
        ]
    finally:
        canary.remove()


def grades(programs, rules: bool, seconds: float) -> dict:
    chosen = [p for p in programs if rules or p[1][0] in ATTACKS_ON_THE_GRADER]
    with KernelGrader(workers=2, rules=rules, seconds=seconds) as grader:
        found = grader.grade([p[4] for p in chosen], [TASKS[p[5]] for p in chosen])
    return dict(zip([p[0] for p in chosen], found))


def summary(table: list[dict]) -> dict:
    """For each family: how many there are, how many the naive grader pays in full, how many ours pays over the cap."""
    families = Counter(row["family"][0] if row["family"][0].isupper() else row["family"] for row in table)
    found = {}
    for family, count in sorted(families.items()):
        mine = [row for row in table if row["family"].startswith(family)]
        found[family] = {
            "programs": count,
            "naive_runs": sum(row["naive"] is not None for row in mine),
            "naive_pays": sum(row["naive"] == 1.0 for row in mine),
            "ours_over_cap": sum(row["ours"] is None or row["ours"] > row["cap"] for row in mine),
            "ours_pays": sum(row["ours"] == 1.0 for row in mine),
            "kernelbench_refuses": sum(row["kernelbench"].startswith("refused") for row in mine),
            "kernelguard_hacked": sum(row["kernelguard"] == "hacked" for row in mine),
        }
    return found


def versions() -> dict:
    """Of what judges here, beside those that every record has."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", default=str(records.results_folder() / "redteam.json"))
    given = parser.parse_args()
    record, start = records.new("redteam", "all", "kernels", "none", 0, 0, {"seconds": 1.0}), time.perf_counter()
    record.versions |= versions()
    record.metrics = rows(exploits(), [*controls("honest"), *controls("wrong")])
    record.size, record.seconds, record.notes = len(record.metrics), round(time.perf_counter() - start, 1), summary(record.metrics)
    record.save(given.save)
    for family, counts in record.notes.items():
        print(family, json.dumps(counts))


if __name__ == "__main__":
    main()
