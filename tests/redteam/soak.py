"""Twenty thousand mixed completions, honest and hostile: does the grader stay as it was?

    python tests/redteam/soak.py                 writes data/results/redteam-soak.json
    python tests/redteam/soak.py --completions 500 --save build/soak.json

Batches of GRPO's shape (8 prompts x 8 completions, duplicates included) from the exploits, the honest kernels and the wrong
ones, each batch with a seed of its own, so that nothing is remembered from before. After each batch: memory of the grader
and of its processes, their number and zombies among them, and whether every score is the one that the program got the first
time. The last number is what matters: a drift in scores is a reward that changes under the policy's feet.
"""

import argparse
import os
import random
import time
from collections import Counter
from pathlib import Path

from controls import controls
from exploit_tasks import TASKS
from programs import exploits
from table import versions
from watch import Canary, left_over, processes, zygotes

from rftlab import records
from rftlab.kernels import KernelGrader

BATCH = 64
HONEST, WRONG = 0.35, 0.25  # shares of a batch; the rest are exploits
SECONDS = 1.0
# Each of these holds a worker until its time is up; a share of them would turn a soak into a wait. Drawn once in a while.
SLOW = ("H1", "H2", "H3", "H4b", "H4c", "H5", "H11", "H13", "H26", "H27", "G5b", "K6", "K8", "B22b", "A31b", "H12")
SELDOM = 0.02
CHANCE = ("B1", "M3", "M8")  # these hang on chance by design


def memory_mb(pid: int) -> float:
    """Proportional resident memory: shared pages are counted once over all processes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def zombies(ours: set[int]) -> int:
    """Ended processes that nobody has reaped, below the grader or its zygotes."""
    count = 0
    for pid, (above, _) in processes().items():
        try:
            count += above in ours and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            pass
    return count


def draw(pools: dict, chance: random.Random) -> list:
    """One batch: programs with their kind, some of them twice as in a group of completions."""
    batch = []
    while len(batch) < BATCH:
        which = chance.random()
        kind = "honest" if which < HONEST else "wrong" if which < HONEST + WRONG else "slow" if chance.random() < SELDOM else "exploit"
        one = chance.choice(pools[kind])
        batch += [one] * (2 if chance.random() < 0.1 else 1)
    return batch[:BATCH]


def soak(completions: int, rules: bool = True) -> tuple[list[dict], dict]:
    """Grade that many completions; returns a row for each batch, and a summary."""
    chance, first, drift, rows, stages = random.Random(0), {}, Counter(), [], Counter()
    slow = {e.name for e in exploits() if e.family in SLOW or e.family.rstrip("bcdefgh") in SLOW}
    pools = {
        "honest": controls("honest"), "wrong": controls("wrong"),
        "slow": [e for e in exploits() if e.name in slow], "exploit": [e for e in exploits() if e.name not in slow and not e.name.startswith(CHANCE)],
    }
    canary, done = Canary(), 0
    with KernelGrader(workers=2, rules=rules, seconds=SECONDS) as grader:
        start = time.perf_counter()
        while done < completions:
            batch = draw(pools, chance)
            texts = [one.completion.replace("<<canary>>", str(canary.folder)) for one in batch]
            grades = grader.grade(texts, [TASKS[one.task] for one in batch], seed=done)
            done += len(batch)
            for one, grade in zip(batch, grades):
                stages[grade.stage] += 1
                if first.setdefault(one.name, grade.score) != grade.score:
                    drift[one.name] += 1
            pids = zygotes()
            rows.append({
                "step": done, "seconds": round(time.perf_counter() - start, 2), "parent_mb": round(memory_mb(os.getpid()), 1),
                "zygotes_mb": round(sum(map(memory_mb, pids)), 1), "zygotes": len(pids), "zombies": zombies({os.getpid(), *pids}), "left_over": len(left_over()),
                "open_files": len(os.listdir("/proc/self/fd")), "drifts": sum(drift.values()),
            })
        damage = canary.damage()
    canary.remove()
    half = rows[len(rows) // 2 :]
    return rows, {
        "completions": done, "drift": dict(drift), "damage": damage, "stages": dict(stages), "programs": len(first),
        "growth_mb": round(rows[-1]["parent_mb"] + rows[-1]["zygotes_mb"] - rows[len(rows) // 10]["parent_mb"] - rows[len(rows) // 10]["zygotes_mb"], 1),
        "growth_second_half_mb": round(half[-1]["parent_mb"] + half[-1]["zygotes_mb"] - half[0]["parent_mb"] - half[0]["zygotes_mb"], 1),
        "most_zombies": max(row["zombies"] for row in rows), "most_left_over": max(row["left_over"] for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--completions", type=int, default=20_000)
    parser.add_argument("--save", default=str(records.results_folder() / "redteam-soak.json"))
    given = parser.parse_args()
    record = records.new("redteam-soak", "rules", "kernels", "none", given.completions, 0, {"batch": BATCH, "seconds": SECONDS})
    record.versions |= versions()
    rows, record.notes = soak(given.completions)
    record.metrics, record.seconds = rows[:: max(1, len(rows) // 100)] + rows[-1:], rows[-1]["seconds"]
    record.save(given.save)
    print(record.notes)


if __name__ == "__main__":
    main()
