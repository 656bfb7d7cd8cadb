"""Each claim of the deck about RFT and SFT, held against the records: confirmed, refuted or unclear, by a rule.

A claim is read as one or more measurements for each (model, task). Holm's correction runs over all tests made here; then

    more, less   the difference is not 0, at 5 % after the correction
    same         it is not, and its 95 % interval lies within the margin of the claim: we would have seen more
    open         neither: too few seeds for what varies

and the claim says which of these speak for it and which against. The deck names no condition, so a claim is *confirmed* when
every measurement speaks for it, *refuted* when one speaks against it, and *unclear* otherwise.
"""
import math
from dataclasses import dataclass, replace
from statistics import mean

from rftlab.data_size_report import Report, rows_needed, total_cost
from rftlab.significance import Paired, holm, paired

MARGIN = 0.10  # points of accuracy below which two arms count as the same
ENOUGH = 3     # seeds, for a statement without a test
BARS = {10: 0.18, 50: 0.42, 100: 0.60}  # examples: what the deck says RFT improved by
FOR_MORE = {"more": "for", "less": "against", "same": "against", "open": "open"}
FOR_SAME = {"more": "against", "less": "for", "same": "for", "open": "open"}


@dataclass(frozen=True)
class Evidence:
    """One measurement: where, what in words and numbers, and which way it speaks ("for", "against", "open")."""

    where: str
    text: str
    speaks: str = "open"
    test: Paired | None = None
    reading: dict | None = None
    margin: float = MARGIN


@dataclass(frozen=True)
class Claim:
    name: str
    deck: str
    rule: str
    evidence: tuple[Evidence, ...]

    @property
    def verdict(self) -> str:
        ways = [e.speaks for e in self.evidence]
        if "against" in ways:
            return "refuted"
        return "confirmed" if ways and set(ways) == {"for"} else "unclear"

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.verdict.upper()}", f"  deck: {self.deck}", f"  rule: {self.rule}"]
        return "\n".join(lines + [f"  {e.speaks:8}{e.where:18} {e.text}" for e in self.evidence])


def claims(report: Report, noise: dict[float, Report] | None = None, long: Report | None = None) -> list[Claim]:
    """Every claim with its verdict. noise: a report for each share of wrong labels; long: the report on the long runs."""
    found = [data_need(report), adaptability(report), exploration(report), plateau(long), errors(noise or {}), complexity(report),
             *(bar(report, size, gain) for size, gain in BARS.items()), three_times(report), little_at_ten(report),
             smaller_is_better(report), overfitting(report)]
    adjusted = iter(holm([e.test.p for c in found for e in c.evidence if e.test]))
    return [replace(c, evidence=tuple(replace(e, speaks=e.reading[way(e.test, next(adjusted), e.margin)]) if e.test else e
                                      for e in c.evidence)) for c in found]


def way(test: Paired, p: float, margin: float) -> str:
    """more, less, same or open: see the module docstring."""
    if p < 0.05:
        return "more" if test.mean > 0 else "less"
    return "same" if -margin < test.low and test.high < margin else "open"


# --- the six rows of the deck's table -----------------------------------------------------------------------------------

def data_need(report) -> Claim:
    evidence = []
    for model, task in report.groups():
        if not report.sizes(model, task, "rft"):
            continue
        rft, sft = rows_needed(report, model, task, "rft"), [rows_needed(report, model, task, a) for a in ("sft-answers", "sft-solutions")]
        least = min((s for s in sft if s is not None), default=None)
        speaks = "open"
        if report.seeds(model=model, task=task)[0] >= ENOUGH:
            if rft is None or (least is not None and least <= 100):
                speaks = "against"
            elif rft <= 100 and (least is None or least >= 1000):
                speaks = "for"
        evidence.append(Evidence(f"{model} {task}", f"RFT {_rows(rft)}; the better SFT {_rows(least)}", speaks))
    return Claim("data need", "RFT: minimal labeled data; SFT: needs 1,000+ rows",
                 "examples for 90 % of an arm's best gain: for it with RFT at most 100 and SFT at least 1000, against it with "
                 "SFT at most 100, or no gain of 10 points by RFT at any size", tuple(evidence))


def _rows(needed) -> str:
    return "never gains 10 points" if needed is None else f"needs {needed}"


def adaptability(report, size=100) -> Claim:
    return Claim("adaptability", "RFT: continuous improvement; SFT: limited by labeled data",
                 f"accuracy on larger problems than any in training, RFT minus the better SFT, {size} examples",
                 _against_sft(report, size, "larger", FOR_MORE))


def exploration(report, size=100) -> Claim:
    evidence = []
    for model, task in report.groups():
        many = report.differences(model, task, size, "rft", "base", "pass@64")
        once = report.differences(model, task, size, "rft", "base", "pass@1")
        if not many:
            continue
        before = report.estimate(model, task, "base", size, "pass@64")
        test, first = paired(many, 1 / before.n), paired(once, 1 / (64 * before.n))
        text = f"pass@64 {before.mean:.2f} {test}, pass@1 {first}"
        full = before.mean > 1 - MARGIN  # no room to find anything new
        evidence.append(Evidence(f"{model} {task}", text + (" (no room above)" if full else ""), test=None if full else test,
                                 reading=FOR_MORE))
    return Claim("exploration", "RFT: actively tries new strategies; SFT: relies on fixed examples",
                 f"pass@64 after RFT on {size} examples minus before: does it solve what 64 samples of the base do not?", tuple(evidence))


def plateau(long) -> Claim:
    evidence = []
    for model, task in long.groups() if long else ():
        for arm, reading in (("rft", FOR_MORE), ("sft-solutions", FOR_SAME)):
            for size in long.sizes(model, task, arm):
                late = [late_gain(run) for run in long.cells[model, task, arm, size].values()]
                test = paired(late, 0.01)
                evidence.append(Evidence(f"{model} {task}", f"{arm}, {size} examples: last quarter minus the one before {test}",
                                         test=test, reading=reading, margin=0.03))
    return Claim("plateau", "RFT: continual progress; SFT: reaches plateau",
                 "validation accuracy in the last quarter of a long run minus that in the quarter before, margin 3 points: RFT "
                 "more, SFT the same", tuple(evidence))


def late_gain(run) -> float:
    """Mean validation accuracy in the last quarter of the evaluations minus that in the quarter before."""
    values = run.curve("accuracy")[1]
    quarter = max(1, len(values) // 4)
    return mean(values[-quarter:]) - mean(values[-2 * quarter:-quarter])


def errors(noise) -> Claim:
    evidence = []
    clean, wrong = noise.get(0.0), noise.get(0.1)
    for model, task in clean.groups() if clean and wrong else ():
        for size in clean.sizes(model, task, "rft"):
            sft = clean.better_sft(model, task, size)
            lost = {arm: loss_to_noise(clean, wrong, model, task, arm, size) for arm in ("rft", sft) if arm}
            values = [lost[sft][seed] - lost["rft"][seed] for seed in sorted(lost["rft"].keys() & lost.get(sft, {}).keys())] if sft else []
            if values:
                losses = ", ".join(f"{arm} loses {mean(v.values()):.2f}" for arm, v in lost.items())
                evidence.append(Evidence(f"{model} {task}", f"{losses}; SFT loses more by {(test := paired(values, clean.step()))}",
                                         test=test, reading=FOR_MORE, margin=0.05))
    return Claim("error handling", "RFT: learns from mistakes; SFT: repeats errors in data",
                 "accuracy lost when 10 % of the labels are wrong, the better SFT minus RFT, margin 5 points", tuple(evidence))


def loss_to_noise(clean, wrong, model, task, arm, size) -> dict:
    """seed -> accuracy of the run with right labels minus that of the run with some wrong ones; two reports."""
    first, second = clean.by_seed(model, task, arm, size), wrong.by_seed(model, task, arm, size)
    return {seed: first[seed] - second[seed] for seed in first.keys() & second.keys()}


def complexity(report, size=100) -> Claim:
    evidence = []
    for model, task in report.groups():
        sft = report.better_sft(model, task, size)
        first, second = (report.cells.get((model, task, arm, size), {}) for arm in ("rft", sft))
        pairs = [(total_cost(first[seed]), total_cost(second[seed])) for seed in sorted(first.keys() & second.keys())]
        if pairs:
            test = paired([math.log2(a[0] / b[0]) for a, b in pairs], 0.01)
            tokens = mean(math.log2(a[1] / b[1]) for a, b in pairs)
            evidence.append(Evidence(f"{model} {task}", f"RFT takes {2 ** test.mean:.1f} times the seconds and {2 ** tokens:.0f} "
                                     f"times the tokens of {sft}", test=test, reading=FOR_MORE, margin=0.5))
    return Claim("complexity", "RFT: higher (reward function); SFT: lower (just examples)",
                 f"seconds of training, RFT over the better SFT, {size} examples (log2, margin half a doubling); what it costs "
                 "people to write a verifier or solutions is not measured", tuple(evidence))


# --- the bars, and what is said beside them -----------------------------------------------------------------------------

def bar(report, size, said) -> Claim:
    evidence = []
    for model, task in report.groups():
        values = report.differences(model, task, size, "rft", "base")
        if not values:
            continue
        gain, before = paired(values, report.step()), report.estimate(model, task, "base", size).mean
        text, speaks = f"{gain} points", "open"
        if before:
            text += f", {gain.mean / before:+.0%} of {before:.3f}"
        scales = [1.0, before] if before else [1.0]
        if gain.n >= ENOUGH and gain.high - gain.low < 0.4:
            inside = any(gain.low <= said * scale <= gain.high for scale in scales)
            speaks = "for" if inside else "against"
        evidence.append(Evidence(f"{model} {task}", text, speaks))
    return Claim(f"{size} examples", f"RFT improved the base model by {said:.0%}",
                 "RFT minus base: the deck's number lies in the 95 % interval, read as points or as per cent of the base; an "
                 "interval wider than 40 points says nothing", tuple(evidence))


def three_times(report, size=100) -> Claim:
    evidence = []
    for model, task in report.groups():
        sft = report.better_sft(model, task, size)
        rft, other = (report.by_seed(model, task, arm, size) for arm in ("rft", sft))
        base = report.by_seed(model, task, "base", size)
        seeds = sorted(rft.keys() & other.keys())
        if not seeds:
            continue
        gains = [(rft[s] - base[s], other[s] - base[s]) for s in seeds]
        ours, theirs = mean(g[0] for g in gains), mean(g[1] for g in gains)
        nothing = max(ours, theirs) < 0.05
        evidence.append(Evidence(f"{model} {task}", f"RFT gains {ours:+.2f}, {sft} {theirs:+.2f}" + (" (neither gains)" if nothing else ""),
                                 test=None if nothing else paired([a - 3 * b for a, b in gains], report.step()),
                                 reading={**FOR_MORE, "same": "for"}))
    return Claim("3x better", "100 examples: 3x better than SFT", "gain of RFT minus three times the gain of the better SFT",
                 tuple(evidence))


def little_at_ten(report) -> Claim:
    evidence = []
    for model, task in report.groups():
        sft = report.better_sft(model, task, 10)
        values = report.differences(model, task, 10, sft, "base") if sft else []
        if values:
            test = paired(values, report.step())
            evidence.append(Evidence(f"{model} {task}", f"{sft} gains {test}", test=test, reading=FOR_SAME))
    return Claim("SFT with 10", "10 examples: SFT showed minimal gains", "gain of the better SFT over the base with 10 examples",
                 tuple(evidence))


def smaller_is_better(report, small=10) -> Claim:
    evidence = []
    for model, task in report.groups():
        large = max((s for s in report.sizes(model, task, "rft") if s >= 500 and report.better_sft(model, task, s)), default=None)
        if large is None or small not in report.sizes(model, task, "rft") or not report.better_sft(model, task, small):
            continue
        leads = []
        for size in (small, large):
            rft, sft = (report.by_seed(model, task, arm, size) for arm in ("rft", report.better_sft(model, task, size)))
            leads.append({s: rft[s] - sft[s] for s in rft.keys() & sft.keys()})
        values = [leads[0][s] - leads[1][s] for s in sorted(leads[0].keys() & leads[1].keys())]
        if values:
            text = " and ".join(f"{mean(lead.values()):+.2f} with {size}" for lead, size in zip(leads, (small, large)))
            reading = FOR_MORE if mean(leads[0].values()) > 0 else {**FOR_MORE, "more": "open"}  # no lead that could have grown
            evidence.append(Evidence(f"{model} {task}", f"RFT leads by {text}", test=paired(values, report.step()), reading=reading))
    return Claim("smaller, better", "the smaller the dataset, the greater RFT's advantage over SFT",
                 f"RFT's lead over the better SFT with {small} examples minus that with 500 or more", tuple(evidence))


def overfitting(report, size=10) -> Claim:
    evidence = []
    for model, task in report.groups():
        sft = report.better_sft(model, task, size)
        if not sft:
            continue
        gaps = {}
        for arm in ("rft", sft):
            train, test = (report.by_seed(model, task, arm, size, name) for name in ("train_accuracy", "accuracy"))
            gaps[arm] = {s: train[s] - test[s] for s in train.keys() & test.keys()}
        values = [gaps[sft][s] - gaps["rft"][s] for s in sorted(gaps[sft].keys() & gaps["rft"].keys())]
        if values:
            text = ", ".join(f"{arm} {mean(gap.values()):+.2f}" for arm, gap in gaps.items())
            evidence.append(Evidence(f"{model} {task}", f"train minus held out: {text}", test=paired(values, 1 / size), reading=FOR_MORE))
    return Claim("overfitting", "RFT resists overfitting by learning robust strategies",
                 f"training minus held-out accuracy, the better SFT minus RFT, {size} examples, at the weights that early stopping "
                 "kept", tuple(evidence))


def _against_sft(report, size, name, reading) -> tuple[Evidence, ...]:
    found = []
    for model, task in report.groups():
        sft = report.better_sft(model, task, size)
        values = report.differences(model, task, size, "rft", sft, name) if sft else []
        if values:
            test = paired(values, report.step(name))
            level = report.estimate(model, task, "rft", size, name).mean
            found.append(Evidence(f"{model} {task}", f"RFT {level:.2f}, minus {sft} {test}", test=test, reading=reading))
    return tuple(found)
