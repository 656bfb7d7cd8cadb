"""RFT, SFT, both or neither? A probe of the untrained policy, and advice looked up in the records of data-size.

The fit is the plainest that so few tasks allow: the nearest recorded (model, task), by what the base policy can do before
training, at the largest recorded size that is not larger than yours. Near means that pass@1, and pass@64 if that was measured,
lie within a factor of REACH of the recorded ones. Farther away the answer is "cannot tell". `leave_one_task_out` measures what
the fit is worth: it advises on each task from the records of the others.
"""
import math
import time
from dataclasses import dataclass, replace
from statistics import mean, median

from rftlab.data_size_report import Report, total_cost
from rftlab.evaluate import Estimate, bootstrap, pass_at_k, right_counts
from rftlab.significance import paired

REACH = 3.0          # factor in pass@1 and pass@64 up to which a recorded task counts as near
SEEN = 1 / 1024      # one right sample of the 16 x 64 that were drawn for the records: less than that was not seen
SEEN_PROBLEM = 1 / 16
LEARNT = 0.05        # points of accuracy that count as having learnt something
CLOSE = 0.02         # arms this close to the best are as good, and the cheapest of them is advised
NEEDS = {"few-shot": ("solutions",), "sft-answers": ("answers",), "sft-solutions": ("solutions",), "rft": ("verifiable",),
         "rejection": ("verifiable",), "sft-rft": ("solutions", "verifiable")}
CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Advice:
    """recommendation: an arm, "nothing" or "cannot tell". expected: arm -> accuracy in the nearest records."""

    recommendation: str
    reasons: tuple[str, ...]
    limits: tuple[str, ...]
    expected: dict[str, Estimate]

    def __str__(self) -> str:
        return "\n".join([f"advice: {self.recommendation}", *(f"  because {r}" for r in self.reasons),
                          *(f"  but {limit}" for limit in self.limits)])


@dataclass(frozen=True)
class Probe:
    """What k samples a problem of the untrained policy say. informative: the share of groups of 8 with both right and wrong."""

    pass_at_1: Estimate
    pass_at_k: Estimate
    k: int
    informative: float
    seconds: float
    prediction: str
    reason: str

    def __str__(self) -> str:
        return (f"pass@1 {self.pass_at_1.mean:.3f}, pass@{self.k} {self.pass_at_k.mean:.2f}, groups of 8 that would teach "
                f"{self.informative:.2f}\n{self.prediction}: {self.reason}")


def probe(policy, task, problems, k: int = 64, seed: int = 0, max_new_tokens: int = 40, temperature: float = 1.0,
          report: Report | None = None) -> Probe:
    """Sample k answers to each problem, look at pass@1 and pass@k, and predict whether RFT can learn.

    16 problems with 64 samples each are what the records have. The prediction is "RFT can learn", "RFT will not learn" or
    "cannot tell". Raises ValueError for no problems or k below 8, the size of a group.
    """
    if k < 8:
        raise ValueError(f"got k={k}: a probe needs at least 8 samples a problem, the size of one group; 64 compare with the records")
    start = time.perf_counter()
    right = right_counts(policy, task, problems, k, seed, max_new_tokens, temperature)
    seconds = time.perf_counter() - start
    first, many = (bootstrap([pass_at_k(k, c, n) for c in right]) for n in (1, k))
    informative = mean(pass_at_k(k, c, 8) - (1 - pass_at_k(k, k - c, 8)) for c in right)
    prediction, reason = predict(report or Report.load(), first.mean, many.mean, k)
    return Probe(first, many, k, informative, seconds, prediction, reason)


def predict(report, pass_at_1, pass_at_k, k=64) -> tuple[str, str]:
    """(prediction, reason) from the nearest recorded task: did RFT gain there, over all sizes?"""
    where, distance = nearest(report, pass_at_1, pass_at_k, k)
    if where is None or distance > math.log(REACH):
        return CANNOT_TELL, _too_far(report, where, distance)
    gains = {s: report.differences(*where, s, "rft", "base") for s in report.sizes(*where, "rft")}
    learnt = [s for s, values in gains.items() if len(values) > 1 and paired(values, report.step()).low > LEARNT]
    tried = [s for s, values in gains.items() if len(values) > 1]
    if not tried:
        return CANNOT_TELL, f"the nearest recorded task, {_name(report, where)}, has too few seeds"
    text = f"on {_name(report, where)} RFT gained more than {LEARNT:.2f} at {len(learnt)} of {len(tried)} sizes"
    if 2 * len(learnt) > len(tried):
        return "RFT can learn", f"{text} ({', '.join(map(str, learnt))})"
    return ("RFT will not learn" if not learnt else CANNOT_TELL), text


def advise(examples: int, *, verifiable: bool, solutions: bool, pass_at_1: float, pass_at_k: float, k: int = 64,
           answers: bool = True, seconds: float | None = None, report: Report | None = None) -> Advice:
    """Which way of training to try, from the nearest records, with its reasons and limits.

    examples: how many problems you have. answers, solutions: whether they come with final answers, with worked solutions.
    verifiable: whether a program can tell right from wrong. pass_at_1, pass_at_k: of the untrained policy, from `probe`.
    seconds: training time available, on the machine and at the size of model of the records. Raises ValueError for numbers
    that cannot be.
    """
    if examples < 0 or not 0 <= pass_at_1 <= pass_at_k <= 1:
        raise ValueError(f"got examples={examples}, pass_at_1={pass_at_1}, pass_at_k={pass_at_k}: expected examples >= 0 and "
                         "0 <= pass_at_1 <= pass_at_k <= 1")
    report = report or Report.load()
    have = {"verifiable": verifiable, "solutions": solutions, "answers": answers}
    open_arms = [arm for arm, needs in NEEDS.items() if all(have[n] for n in needs)]
    if not open_arms:
        return Advice(CANNOT_TELL, ("there is nothing to learn from: no verifier, no answers, no solutions",), (), {})
    where, distance = nearest(report, pass_at_1, pass_at_k, k)
    if where is None or distance > math.log(REACH):
        return Advice(CANNOT_TELL, (_too_far(report, where, distance),), ("run two arms with two seeds yourself: that is an answer",), {})
    sizes = report.sizes(*where, "rft")
    if not sizes or not sizes[0] <= examples <= sizes[-1]:
        span = f"{sizes[0]} to {sizes[-1]}" if sizes else "which has no run of RFT yet"
        return Advice(CANNOT_TELL, (f"{examples} examples are outside the records of {_name(report, where)}, {span}",), (), {})
    size = max(s for s in sizes if s <= examples)
    found = _choose(report, where, size, open_arms, seconds)
    return replace(found, limits=(_limit(report), *found.limits))


def _choose(report, where, size, open_arms, seconds=None) -> Advice:
    """The cheapest arm that is as good as the best of the open ones in this cell of the records."""
    runs = {arm: found for arm in open_arms if len(found := report.cells.get((*where, arm, size), {})) > 1}
    cost = {arm: median(total_cost(run)[0] for run in found.values()) for arm, found in runs.items()}
    dear = [arm for arm in runs if seconds is not None and cost[arm] > seconds]
    expected = {arm: report.estimate(*where, arm, size) for arm in runs if arm not in dear}
    name, limits = _name(report, where), []
    if dear:
        limits.append(f"{', '.join(dear)} took longer there than you have")
    if not expected:
        return Advice(CANNOT_TELL, (f"no arm that you could use has two seeds with {size} examples of {name}"
                                    + (" within your time" if dear else ""),), tuple(limits), {})
    best = max(expected, key=lambda arm: expected[arm].mean)
    base = report.estimate(*where, "base", size).mean
    found = f"nearest are the records of {name} with {size} examples: base {base:.2f}, " + ", ".join(
        f"{arm} {e.mean:.2f}" for arm, e in expected.items())
    if expected[best].mean - base < LEARNT:
        return Advice("nothing", (found, f"no arm that you could use gained {LEARNT:.2f} there"),
                      (*limits, "more examples, worked solutions, an easier task or a better base model would change that"), expected)
    good = [arm for arm in expected if expected[best].mean - expected[arm].mean <= CLOSE]
    chosen = min(good, key=cost.__getitem__)
    reasons = [found, f"{chosen} took {cost[chosen]:.1f} s"]
    if len(good) > 1:
        reasons.append(f"within {CLOSE:.2f} of the best: {', '.join(good)}; the cheapest of them is advised")
    return Advice(chosen, tuple(reasons), tuple(limits), expected)


def nearest(report, pass_at_1, pass_at_k, k=64, without=()) -> tuple[tuple[str, str] | None, float]:
    """The recorded (model, task) whose base is most alike, and how far it is: the larger of the log ratios of the two rates."""
    found = []
    for where in report.groups():
        if where in without:
            continue
        first, many = rates(report, where)
        distance = abs(math.log((pass_at_1 + SEEN) / (first + SEEN)))
        if k == 64:
            distance = max(distance, abs(math.log((pass_at_k + SEEN_PROBLEM) / (many + SEEN_PROBLEM))))
        found.append((distance, where))
    return (min(found)[1], min(found)[0]) if found else (None, math.inf)


def rates(report, where) -> tuple[float, float]:
    """pass@1 and pass@64 of the untrained policy."""
    return tuple(report.estimate(*where, "base", None, name).mean for name in ("pass@1", "pass@64"))


def leave_one_task_out(report) -> dict:
    """Advise on every recorded cell from the other tasks' records: how often it can tell, and what following it would lose.

    Regret: accuracy of the best usable arm minus that of the advised one (the base, for "nothing"), in the left-out task.
    n counts (task, size, what is available). told: the share within reach. regret, worst: of all answers, forced where nothing
    was within reach.
    """
    told, regrets = [], []
    for where in report.groups():
        if len(report.groups()) < 2:
            break
        near, distance = nearest(report, *rates(report, where), without=[where])
        for size in set(report.sizes(*where, "rft")) & set(report.sizes(*near, "rft")):
            for have in ({"answers", "verifiable"}, {"answers", "solutions"}, {"answers", "solutions", "verifiable"}):
                arms = [arm for arm, needs in NEEDS.items() if have.issuperset(needs)]
                truth = {a: report.estimate(*where, a, size) for a in arms}
                truth = {a: e.mean for a, e in truth.items() if e and e.n > 1}
                advice = _choose(report, near, size, arms)
                if truth and advice.recommendation != CANNOT_TELL:
                    base = report.estimate(*where, "base", size).mean
                    told.append(distance <= math.log(REACH))
                    regrets.append(max(0.0, max(base, *truth.values()) - truth.get(advice.recommendation, base)))
    if not regrets:
        return {"tasks": len(report.groups()), "n": 0, "told": 0.0, "regret": math.nan, "worst": math.nan}
    return {"tasks": len(report.groups()), "n": len(regrets), "told": mean(told), "regret": mean(regrets), "worst": max(regrets)}


def _name(report, where) -> str:
    first, many = rates(report, where)
    return f"{where[0]} on {where[1]} (pass@1 {first:.3f}, pass@64 {many:.2f})"


def _too_far(report, where, distance) -> str:
    if where is None:
        return "there are no records"
    return (f"the nearest record is {_name(report, where)}, off by a factor of {math.exp(distance):.1f}, and nothing within a "
            f"factor of {REACH:g} was tried")


def _limit(report) -> str:
    error = leave_one_task_out(report)
    if not error["n"]:
        return f"these are the records of {error['tasks']} task, and nothing says that yours is like it"
    return (f"this is a look-up in {error['tasks']} tasks; each advised on from the others, it would have lost "
            f"{error['regret']:.2f} of accuracy on average and {error['worst']:.2f} at worst (n={error['n']})")
