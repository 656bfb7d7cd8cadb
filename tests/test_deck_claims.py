"""Verdicts on the deck: made-up records on which each claim is true, false or cannot be told."""
import pytest

from data_size_records import run, several
from rftlab import deck_claims
from rftlab.data_size_report import Report
from rftlab.significance import paired

WOBBLE = (-0.02, 0.0, 0.01, 0.01, -0.01, 0.01)


def cell(arm, size, accuracy, **options):
    return several(arm, size, [accuracy + w for w in WOBBLE], **options)


def world(sizes=(1, 10, 50, 100, 1000), rft=lambda n: 0.8, sft=lambda n: 0.8, seeds=6, **options):
    """Accuracy by size of both arms; base 0.2. SFT on answers never learns."""
    runs = [r for n in sizes for r in (*cell("rft", n, rft(n), validation=[0.5], seconds=4.0, **options),
                                       *cell("sft-solutions", n, sft(n), validation=[0.5]),
                                       *cell("sft-answers", n, 0.2, validation=[0.1]))]
    return Report([r for r in runs if r.seed < seeds])


def verdict(name, report, **others):
    return next(c for c in deck_claims.claims(report, **others) if c.name == name).verdict


DECK = world(rft=lambda n: 0.2 + (0.18 if n <= 10 else 0.42 if n == 50 else 0.6), sft=lambda n: 0.8 if n >= 1000 else 0.21)


@pytest.mark.parametrize("name", ["data need", "complexity", "10 examples", "50 examples", "100 examples", "3x better", "SFT with 10",
                                  "smaller, better"])
def test_a_world_as_the_deck_says_confirms_it(name):
    assert verdict(name, DECK) == "confirmed"
    assert verdict(name, world(rft=lambda n: 0.2 + 0.01 * (n > 10), sft=lambda n: 0.8, seeds=6)) == "refuted" or name == "complexity"


@pytest.mark.parametrize("name", ["data need", "10 examples", "3x better", "smaller, better", "exploration", "adaptability"])
def test_one_seed_is_never_a_verdict(name):
    assert verdict(name, world(seeds=1)) == "unclear"


def test_one_counter_example_refutes_and_is_named():
    both = Report([*DECK.runs, *(run(r.arm, r.size, r.seed, 0.0 if r.arm == "rft" else 0.9, 0.0, task="codebook", validation=[0.5])
                                 for r in DECK.runs if r.arm != "sft-answers")])
    claim = next(c for c in deck_claims.claims(both) if c.name == "3x better")
    assert claim.verdict == "refuted" and {e.where: e.speaks for e in claim.evidence} == {
        "tiny arithmetic": "for", "tiny codebook": "against"}
    assert "tiny codebook" in str(claim) and "REFUTED" in str(claim)


def pass_world(before, after):
    runs = [run("rft", 100, seed, 0.8, **{"pass@64": after + w, "pass@64_before": before}) for seed, w in enumerate(WOBBLE)]
    return Report(runs)


def test_exploration():
    assert verdict("exploration", pass_world(0.3, 0.8)) == "confirmed"
    assert verdict("exploration", pass_world(0.3, 0.31)) == "refuted"
    assert verdict("exploration", pass_world(1.0, 0.98)) == "unclear"  # nothing was left to find
    few = pass_world(0.3, 0.6)
    for r in few.runs:  # two problems: no difference can be known more finely than to a half
        r.final["pass@64"]["n"] = r.final["pass@64_before"]["n"] = 2
    assert verdict("exploration", pass_world(0.3, 0.6)) == "confirmed" and verdict("exploration", few) == "unclear"


def test_adaptability():
    def far(rft, sft):
        return Report([run(arm, 100, seed, 0.8, larger=v + w, validation=[0.5]) for arm, v in (("rft", rft), ("sft-solutions", sft))
                       for seed, w in enumerate(WOBBLE if arm == "rft" else WOBBLE[::-1])])
    assert verdict("adaptability", far(0.5, 0.1)) == "confirmed"
    assert verdict("adaptability", far(0.1, 0.5)) == verdict("adaptability", far(0.3, 0.3)) == "refuted"


def test_plateau():
    def long(rft, sft):
        return Report([run(arm, 500, seed, 0.5, validation=[v + (seed - 1) * 0.004 * (i % 2) for i, v in enumerate(curve)])
                       for arm, curve in (("rft", rft), ("sft-solutions", sft)) for seed in range(6)])
    rising, flat = [i / 20 for i in range(16)], [0.1] * 4 + [0.4] * 12
    assert verdict("plateau", DECK, long=long(rising, flat)) == "confirmed"
    assert verdict("plateau", DECK, long=long(flat, flat)) == verdict("plateau", DECK, long=long(rising, rising)) == "refuted"
    assert verdict("plateau", DECK) == "unclear"


def test_late_gain_by_hand():
    assert deck_claims.late_gain(run("rft", 10, 0, 1, validation=[0, 0, 0, 0, 0.2, 0.4, 0.5, 0.7])) == pytest.approx(0.3)


def test_errors_in_data():
    def spoilt(rft, sft):
        return {0.0: world(sizes=(100,)), 0.1: world(sizes=(100,), rft=lambda n: rft, sft=lambda n: sft)}
    assert verdict("error handling", DECK, noise=spoilt(0.8, 0.6)) == "confirmed"
    assert verdict("error handling", DECK, noise=spoilt(0.6, 0.8)) == "refuted"
    assert verdict("error handling", DECK, noise=spoilt(0.79, 0.79)) == "refuted"
    assert verdict("error handling", DECK) == "unclear"


def test_overfitting():
    def gaps(rft, sft):
        return Report([run(arm, 10, seed, 0.4 + w, train_accuracy=0.4 + w / 2 + gap, validation=[0.5])
                       for arm, gap in (("rft", rft), ("sft-solutions", sft)) for seed, w in enumerate(WOBBLE)])
    assert verdict("overfitting", gaps(0.0, 0.5)) == "confirmed"
    assert verdict("overfitting", gaps(0.5, 0.0)) == "refuted"


@pytest.mark.parametrize("values, p, expected", [([0.2, 0.21, 0.19], 0.01, "more"), ([-0.2, -0.21, -0.19], 0.01, "less"),
                                                 ([0.01, -0.01, 0.0], 0.9, "same"), ([0.5, -0.5, 0.1], 0.9, "open")])
def test_which_way(values, p, expected):
    assert deck_claims.way(paired(values), p, 0.1) == expected
