"""Each alarm rings in a run of `tiny` that is really sick that way, and none in one that is well."""
import json
import os
import subprocess
import sys

import pytest

import rftlab
from rftlab import grpo, monitor, rewards
from rftlab.monitor import Limits, Monitor, look


def watched(steps, reward_fn=None, lr=1e-3, limits=Limits(), **more):
    task = rftlab.load_task("arithmetic", level=1)
    watch = Monitor(limits, on_alarm=None)
    record = grpo.train(rftlab.load_policy("tiny"), task, task.train(50), steps=steps, prompts_per_step=4, max_new_tokens=40, lr=lr,
                        reward_fn=reward_fn, on_step=watch, **more)
    return watch, record


def names(watch):
    return [alarm.name for alarm in watch.alarms]


def just_a_one(prompts, completions, **columns):
    """A side reward that is easier than the task: up to ten per cent for saying 1 and nothing else, right or wrong."""
    return [0.1 * text.count("1") / max(1, len(text)) ** 2 for text in completions]


def long_answers(prompts, completions, **columns):
    """The verifier pays nobody, and a small bonus for length is all there is."""
    return [len(text) / 10000 for text in completions]


def test_a_healthy_run_rings_no_alarm():
    watch, record = watched(14, lr=3e-4, track_kl=True)
    rewards_paid = record.curve("reward")[1]
    assert sum(rewards_paid[-4:]) > sum(rewards_paid[:4]) + 0.8, "it did learn"
    assert names(watch) == [] and all(entry["memory_mb"] > 50 for entry in watch.metrics)


def test_a_reward_that_pays_nobody_is_dead():
    watch, _ = watched(8, rewards.constant(0.0))
    assert names(watch) == ["reward dead"] and watch.alarms[0].step == 8
    assert "100% of the groups of the last 8 steps agree" in str(watch.alarms[0]) and "verifier reads" in watch.alarms[0].advice


def test_a_side_reward_collapses_the_entropy():
    watch, record = watched(20, just_a_one, lr=3e-3)
    assert "entropy collapse" in names(watch), record.metrics


def test_a_small_bonus_explodes_the_length():
    watch, record = watched(16, long_answers, lr=2e-3, limits=Limits(window=6))
    assert "length explosion" in names(watch), record.metrics


def test_a_learning_rate_ten_times_too_large_runs_away():
    watch, record = watched(8, rewards.random_reward(0), lr=3e-3, track_kl=True)
    assert "KL run-away" in names(watch), record.metrics


def test_each_alarm_needs_its_reason():
    def run(**changes):
        well = {"reward": 0.5, "zero_variance": 0.3, "entropy": 0.5, "length": 10.0, "kl": 0.05}
        return [{"step": i + 1, **well, **(changes if i >= 8 else {})} for i in range(16)]

    found = lambda **changes: [alarm.name for alarm in look(run(**changes))]  # noqa: E731
    assert found() == []
    assert found(zero_variance=1.0) == ["reward dead"] and found(zero_variance=1.0, reward=1.0) == []
    assert found(entropy=0.05) == ["entropy collapse"] and found(entropy=0.05, reward=0.9) == []
    assert found(length=21.0) == ["length explosion"] and found(length=21.0, reward=0.7) == []
    assert found(kl=1.5) == ["KL run-away"] and found(kl=None) == []
    assert look(run(kl=9.0)[:7]) == [], "too early to tell"


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_a_reward_that_grades_nothing_is_said_and_not_raised(nothing):
    def steps(begin, end):
        return [{"step": i + 1, "reward": begin if i < 8 else end, "zero_variance": 1.0, "entropy": 0.5, "length": 10.0 if i < 8 else 30.0} for i in range(16)]

    said = lambda begin, end: {alarm.name: alarm.evidence for alarm in look(steps(begin, end))}  # noqa: E731
    assert said(nothing, nothing) == {"reward dead": "100% of the groups of the last 8 steps agree, none graded",
                                      "length explosion": "10.0 -> 30.0 tokens, none graded"}
    assert said(nothing, 0.05)["length explosion"] == "10.0 -> 30.0 tokens, reward 0.05, none graded at first"
    assert said(nothing, 0.9) == {} and set(said(0.5, nothing)) == {"reward dead", "length explosion"}
    assert look([{"step": i, "reward": nothing, "zero_variance": 1.0} for i in range(8)])[0].evidence.endswith("agree, none graded")


def test_an_alarm_is_told_once():
    told = []
    watch = Monitor(on_alarm=told.append)
    for step in range(20):
        watch({"step": step + 1, "reward": 0.0, "zero_variance": 1.0})
    assert [alarm.step for alarm in told] == [8]
    assert set(monitor.ADVICE) == {"reward dead", "entropy collapse", "length explosion", "KL run-away"}


@pytest.mark.parametrize("logs, expected", [
    ({"reward": 0.5, "frac_reward_zero_std": 0.25, "completions/mean_length": 7.0, "rewards/verifier/mean": 0.5, "rewards/verifier/std": 1,
      "share_short": 0.1, "learning_rate": 1e-3, "epoch": 1.0},
     {"step": 3, "reward": 0.5, "zero_variance": 0.25, "length": 7.0, "rewards/verifier": 0.5, "share_short": 0.1})])
def test_names_of_trl(logs, expected):
    assert monitor.from_trl(logs, 3) == expected


# In a process of its own: Trackio reads its folder from the environment when it is imported.
ON_A_BOARD = """
import contextlib, io, json, sys, time, urllib.request
import rftlab
from rftlab import grpo, hub_training, monitor, rewards
task = rftlab.load_task("arithmetic", level=1)
printed = io.StringIO()
with contextlib.redirect_stdout(printed), monitor.Board("sums", "ours", {"lr": 1e-3}) as board:
    watch = monitor.Monitor(monitor.Limits(window=3), on_step=board.step, on_alarm=board.alarm)
    grpo.train(rftlab.load_policy("tiny"), task, task.train(8), steps=4, prompts_per_step=2, group_size=2, max_new_tokens=8,
               reward_fn=rewards.constant(0.0), on_step=watch)
    import trackio
    from trackio.sqlite_storage import SQLiteStorage
    until = time.time() + 30
    while len(live := SQLiteStorage.get_logs("sums", "ours")) < 4 and time.time() < until:
        time.sleep(0.1)
with contextlib.redirect_stdout(io.StringIO()):
    trainer = hub_training.grpo_trainer(hub_training.load("tiny", "lora", rank=4), rewards.verifier(task), task.train(8), steps=2,
                                        prompts_per_step=2, group_size=2, max_new_tokens=8, output=sys.argv[1], report_to="trackio",
                                        project="sums", run_name="trl")
    trainer.train()
    address = trackio.show(project="sums", open_browser=False, block_thread=False)[1]
runs = {run.name: run for run in trackio.Api().runs("sums")}
print(json.dumps({"printed": printed.getvalue(), "metrics": watch.metrics, "live": live, "alerts": runs["ours"].alerts(),
                  "lr": runs["ours"].config["lr"], "trl": SQLiteStorage.get_logs("sums", "trl"),
                  "trl_log": trainer.state.log_history, "page": urllib.request.urlopen(address, timeout=30).read().decode()}))
"""


@pytest.mark.slow
def test_a_run_is_seen_in_trackio_while_it_goes_on(tmp_path):
    """Ours through a Board, and TRL's by its own report_to; the dashboard answers."""
    pytest.importorskip("trackio"), pytest.importorskip("trl")
    ran = subprocess.run([sys.executable, "-c", ON_A_BOARD, str(tmp_path / "trl")], capture_output=True, text=True, timeout=600, cwd=tmp_path,
                         env={**os.environ, "TRACKIO_DIR": str(tmp_path / "board"), "RFTLAB_BACKEND": "transformers", "HF_HUB_OFFLINE": "1",
                              "HOME": str(tmp_path / "home"), "RFTLAB_CACHE": os.environ.get("RFTLAB_CACHE", str(tmp_path / "cache"))})
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert [entry["step"] for entry in found["live"]] == [1, 2, 3, 4], "before the run ended"
    for name in ("reward", "zero_variance", "entropy", "length", "memory_mb"):
        assert [entry[name] for entry in found["live"]] == [entry[name] for entry in found["metrics"]], name
    assert found["lr"] == 1e-3
    alert, = found["alerts"]
    assert (alert["title"], alert["step"]) == ("reward dead", 3) and "try: no group has both" in alert["text"]
    assert found["printed"].startswith("step 3: reward dead") and str(tmp_path) not in found["printed"]
    theirs = [entry["train/reward"] for entry in found["trl"] if "train/reward" in entry]
    assert len(theirs) == 2 and theirs == [entry["reward"] for entry in found["trl_log"] if "reward" in entry]
    assert "<title>Trackio Dashboard</title>" in found["page"]
    assert not (tmp_path / "home").exists(), "nothing is left elsewhere"


def test_a_board_without_trackio_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ValueError, match="a Board needs trackio .*: `pip install --no-deps trackio=="):
        monitor.Board("sums")
