"""The bench of speculative decoding, on `tiny` with few tokens: all methods run, and all write the same answers."""
import json
import time

import matplotlib.pyplot as plt
import pytest

import rftlab
from rftlab import bench, bench_turbo, turbo_curve, turbo_rollout


class OneStep:
    """A gate that lets one step through and remembers its seconds."""

    class Closed(Exception):
        pass

    seconds = None

    def begin(self):
        if self.seconds is not None:
            raise self.Closed
        self.start = time.perf_counter()

    def end(self):
        self.seconds = time.perf_counter() - self.start


def in_this_process(makers, runs):
    """In place of `bench.interleaved`, whose processes would each import torch anew."""
    found = []
    for maker in makers:
        gate = OneStep()
        with pytest.raises(OneStep.Closed):
            maker(gate)
        found.append((gate.seconds, 0))
    return found


@pytest.mark.slow
def test_all_methods_write_the_same_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("RFTLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(bench, "interleaved", in_this_process)
    monkeypatch.setattr(bench_turbo, "PROMPTS", 2)
    monkeypatch.setitem(bench_turbo.RECIPES, "tiny", {**bench_turbo.RECIPES["tiny"], "passes": 2, "heads_steps": 8, "draft_steps": 2})
    rows = bench_turbo.bench_turbo("tiny", runs=1, new_tokens=12, least=3)
    assert [r["name"] for r in rows] == ["turbo_vs_generate", "turbo_vs_best_assisted", "plain_vs_generate"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["ours"] / row["peer_value"], abs=0.01) and row["identical"] == 1.0
    assert set(rows[0]["tokens_per_second"]) == set(bench_turbo.METHODS) and set(rows[0]["identical_to_plain"].values()) == {1.0}
    assert 3 <= min(rows[0]["tokens"]) <= 12 and rows[2]["share_of_limit"] > 0
    assert "turbo_vs_best_assisted" in bench.table(rows)
    records = {p.name for p in tmp_path.glob("turbo-tiny-*/record-*.json")}
    assert records == {"record-lora.json", "record-turbo.json", "record-draft.json"}
    (prepared,) = tmp_path.iterdir()
    before = (prepared / "prompts.json").stat().st_mtime_ns
    assert bench_turbo.prepared("tiny", 12, 3) == prepared and (prepared / "prompts.json").stat().st_mtime_ns == before

    monkeypatch.setattr(bench_turbo, "prepared", lambda model: prepared)
    found = turbo_curve.curve("tiny", batches=(1, 2), new_tokens=6, ks=(2,))
    assert [p["batch"] for p in found["points"]] == [1, 2] and all(p["identical"] == 1 and p["speedup"] > 0 for p in found["points"])
    assert found["break_even"][2].keys() == {"speedup", "predicted"}
    json.dumps(found)
    axis = plt.figure().subplots()
    turbo_curve.draw(axis, found)
    measured, predicted, one = axis.get_lines()
    assert list(measured.get_xdata()) == [1, 2] and list(measured.get_ydata()) == [p["speedup"] for p in found["points"]]
    assert list(predicted.get_ydata()) == [p["predicted"] for p in found["points"]] and set(one.get_ydata()) == {1}
    plt.close()

    policy = rftlab.load_policy("tiny", lora=prepared)
    rows = turbo_rollout.compare(policy, rftlab.speculative.find(policy, "turbo"), json.loads((prepared / "prompts.json").read_text()), new_tokens=4, runs=1)
    assert {r["sequences"] for r in rows} == {32, 64} and all(r["tokens_per_second"] > 0 and r["tokens_per_cpu_second"] > 0 for r in rows)
    passes = {r["way"]: r["passes"][0] for r in rows if r["sequences"] == 32}
    assert passes["rollout"] is None and passes["turbo"] <= passes["turbo, 16 rows left"] <= passes["plain"] <= 3


def test_no_answer_is_long_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("RFTLAB_CACHE", str(tmp_path))
    monkeypatch.setitem(bench_turbo.RECIPES, "tiny", {**bench_turbo.RECIPES["tiny"], "passes": 1, "heads_steps": 1, "draft_steps": 1})
    with pytest.raises(ValueError, match="held-out answers has 99 tokens"):
        bench_turbo.prepared("tiny", 4, 99)


def test_the_text_of_chapter_07_says_what_the_records_say():
    results = rftlab.records.results_folder()
    text = "".join("".join(c["source"]) for c in json.loads((results.parents[1] / "notebooks" / "07_turbo_lora.ipynb").read_text())["cells"])
    rows = {r["name"]: r for r in json.loads((results / "bench" / "turbo.json").read_text())["rows"]}
    curve = json.loads((results / "turbo" / "curve-smollm2.json").read_text())
    assert f"{rows['turbo_vs_generate']['ratio']:.1f} times as fast as `generate`" in text
    assert f"and {rows['turbo_vs_best_assisted']['ratio']:.1f} times as fast as the better" in text
    assert f"reaches {rows['plain_vs_generate']['share_of_limit']:.0%}".replace("%", " %") in text
    assert all(r["identical"] == 1 for r in rows.values()) and all(p["identical"] == 1 for p in curve["points"]) and "Not one token differs" in text
    gone = {k: ends["speedup"] for k, ends in curve["break_even"].items()}
    assert f"With 8 guesses it is gone at about {gone['8']:.0f} answers" in text and gone["2"] is gone["4"] is None
    assert curve["pass_seconds"]["1"]["2"] > curve["pass_seconds"]["1"]["5"]
    off = {(p["batch"], p["k"]): abs(p["predicted"] / p["speedup"] - 1) for p in curve["points"]}
    assert max(off, key=off.get)[0] == 4
