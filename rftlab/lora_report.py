"""What the records of the experiment `lora` say: values by setting and seed, paired differences, one figure."""
from dataclasses import dataclass

CENTRE = {"arm": "rft", "targets": "all", "rank": 16, "rate": 1e-3, "alpha": 2, "dropout": 0.0, "size": 100}
FULL = {"targets": "full", "rank": 0, "alpha": 0}


def setting(**changes) -> tuple:
    """The centre with these changes, as a key: setting(targets="attention", rank=1)."""
    unknown = set(changes) - set(CENTRE)
    if unknown:
        raise ValueError(f"no axis {sorted(unknown)[0]!r}; expected some of {', '.join(CENTRE)}")
    return tuple({**CENTRE, **changes}.values())


@dataclass(frozen=True)
class Report:
    """runs: setting -> seed -> record."""

    runs: dict

    @classmethod
    def load(cls):
        from rftlab import records

        runs = {}
        for path in sorted((records.results_folder() / "lora").glob("*.json")):
            r = records.RunRecord.load(path)
            key = setting(arm=r.arm, size=r.size, **{k: r.config[k] for k in CENTRE if k not in ("arm", "size")})
            runs.setdefault(key, {})[r.seed] = r
        return cls(runs)

    def values(self, metric="accuracy", **changes) -> dict:
        """seed -> value, of the settings that were recorded. metric: a name in `final`, or "gap" (train minus held out), or
        "forgetting" (what the loss on general text rose by)."""
        def value(r):
            mean = {name: estimate["mean"] for name, estimate in r.final.items()}
            derived = {"gap": ("train_accuracy", "accuracy"), "forgetting": ("general_loss", "general_loss_before")}
            if metric in derived:
                more, less = derived[metric]
                return mean[more] - mean[less]
            return mean[metric]

        return {seed: value(r) for seed, r in sorted(self.runs.get(setting(**changes), {}).items())}

    def mean(self, metric="accuracy", **changes):
        """The mean over seeds with its t interval; None where nothing is recorded."""
        from rftlab import significance

        found = list(self.values(metric, **changes).values())
        return significance.paired(found, step(metric)) if found else None

    def difference(self, one: dict, other: dict, metric="accuracy"):
        """one - other, paired by seed (the same training problems); None without a seed that both have."""
        from rftlab import significance

        a, b = self.values(metric, **one), self.values(metric, **other)
        shared = sorted(set(a) & set(b))
        return significance.paired([a[s] - b[s] for s in shared], step(metric)) if shared else None

    def best_rate(self, **changes):
        """(rate, mean accuracy, number of seeds) of the best learning rate recorded for a setting, over the seeds that every rate has."""
        found = {}
        for key in self.runs:
            rate = key[list(CENTRE).index("rate")]
            if key == setting(**{**changes, "rate": rate}):
                found[rate] = self.values(**{**changes, "rate": rate})
        shared = set.intersection(*(set(v) for v in found.values()))
        if not shared:
            raise ValueError(f"the rates {sorted(found)} have no seed in common; run more of `python -m rftlab experiment lora`")
        means = {rate: sum(v[s] for s in shared) / len(shared) for rate, v in found.items()}
        best = max(means, key=means.get)
        return best, means[best], len(shared)


def step(metric) -> float:
    """The smallest step of a metric: one of 200 problems, or what a loss is worth mentioning."""
    return 1e-4 if metric in ("general_loss", "forgetting") else 1 / 200


def draw(report, axes) -> None:
    """Left: accuracy against rank, for both choices of layers. Right: against the learning rate, adapters and all weights."""
    ranks, left, right = (1, 4, 16, 32), axes[0], axes[1]
    for i, targets in enumerate(("all", "attention")):
        name = {"all": "all linear layers", "attention": "attention only"}[targets]
        line(left, [(r, report.mean(targets=targets, rank=r)) for r in ranks], name, i)
        line(right, [(r, report.mean(targets=targets, rate=r)) for r in (3e-4, 1e-3, 3e-3)], f"rank 16, {name}", i)
    line(right, [(r, report.mean(rate=r, **FULL)) for r in (3e-5, 1e-4, 3e-4, 1e-3)], "all weights", 2)
    left.set(xscale="log", xlabel="rank", ylabel="held-out accuracy", ylim=(0, 1), xticks=ranks, xticklabels=ranks)
    right.set(xscale="log", xlabel="learning rate", ylim=(0, 1))
    left.legend(loc="lower right", fontsize=8)
    right.legend(loc="lower left", fontsize=8)


def line(axis, points, label, i) -> None:
    from rftlab.drawing import PALETTE

    points = [(x, e) for x, e in points if e is not None]
    if not points:
        return
    xs, means = [x for x, _ in points], [e.mean for _, e in points]
    spread = [[min(1.0, (e.high - e.low) / 2) if e.n > 1 else 0.0 for _, e in points]] * 2
    axis.errorbar(xs, means, yerr=spread, label=label, color=PALETTE[i], marker="os^"[i], capsize=3)
