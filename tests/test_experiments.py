"""A grid of runs loses nothing: not when it is killed, not when a run fails, not when a process dies."""
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from grid_runs import RUNS, begun, failures, saved, wait_for, write_grid

from rftlab import experiments, grids, processes, records
from rftlab.__main__ import main
from rftlab.records import RunRecord

DRIVER = "import sys; from rftlab import experiments; sys.exit(experiments.run(sys.argv[1], jobs=int(sys.argv[2]), results=sys.argv[3]))"


# --- grid files -------------------------------------------------------------------------------------------------------

GRID = """
run = "grid_runs"
file = "{arm}-n{size}-seed{seed}"
[[grid]]
arm = ["base", "rft"]
size = [10, 100]
seed = [0, 1]
[[grid]]
arm = ["few-shot"]
size = [1]
seed = [7]
[[settings]]
where = {}
lr = 1e-3
steps = 5
[[settings]]
where = {arm = ["rft", "few-shot"], size = 100}
lr = 3e-4
[[settings]]
where = {seed = 1}
steps = 9
"""


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "some.toml").write_text(GRID)
    return grids.load(tmp_path / "some.toml")


def test_points_come_with_the_last_axis_outermost(grid):
    order = [(p["seed"], p["size"], p["arm"]) for p in grid.points]
    assert order == [(0, 10, "base"), (0, 10, "rft"), (0, 100, "base"), (0, 100, "rft"),
                     (1, 10, "base"), (1, 10, "rft"), (1, 100, "base"), (1, 100, "rft"), (7, 1, "few-shot")]
    assert grid.path(grid.points[3], "out").as_posix() == "out/some/rft-n100-seed0.json"


@pytest.mark.parametrize("arm, size, seed, expected", [
    ("base", 100, 0, {"lr": 1e-3, "steps": 5}), ("rft", 10, 0, {"lr": 1e-3, "steps": 5}), ("rft", 100, 0, {"lr": 3e-4, "steps": 5}),
    ("rft", 100, 1, {"lr": 3e-4, "steps": 9}), ("base", 10, 1, {"lr": 1e-3, "steps": 9}),
])
def test_later_settings_override_earlier_ones(grid, arm, size, seed, expected):
    assert grid.settings_of({"arm": arm, "size": size, "seed": seed}) == expected


def test_select_keeps_the_given_values(grid):
    assert [(p["arm"], p["size"]) for p in grid.select(arm=["rft"], seed=[1])] == [("rft", 10), ("rft", 100)]
    assert grid.select() == grid.select(arm=None) == grid.select(arm=[]) == grid.points
    assert grid.select(arm="rft", seed=0) == grid.select(arm=("rft",), seed={0}) == grid.select(arm=["rft"], seed=[0])
    assert len(grid.select(seed=0)) == 4 and len(grid.points) == 9


def test_one_value_counts_as_a_list_of_one(tmp_path):
    one = GRID.replace('["few-shot"]', '"few-shot"').replace("seed = [7]", "seed = 7")
    (path := tmp_path / "some.toml").write_text('check = {arm = "base", seed = 1}\n' + one)
    grid = grids.load(path)
    assert grid.points[-1] == {"seed": 7, "size": 1, "arm": "few-shot"}
    assert [p["size"] for p in grid.select(**grid.check)] == [10, 100]


@pytest.mark.parametrize("axes, message", [
    ({"arm": ["rft", "magic"]}, "no arm 'magic' in experiment some; there is base, few-shot, rft"),
    ({"arm": "magic"}, "no arm 'magic' in experiment some; there is base"), ({"seed": 3}, "no seed 3 in experiment some; there is 0, 1, 7"),
    ({"size": [50]}, "no size 50 in experiment some; there is 1, 10, 100"),
    ({"model": ["tiny"]}, "no model 'tiny' in experiment some; there is no such axis"),
])
def test_an_unknown_value_is_named_with_the_known_ones(grid, axes, message):
    with pytest.raises(ValueError, match=message):
        grid.select(**axes)


@pytest.mark.parametrize("old, new, message", [
    ("run =", "run ", "TOMLDecodeError"),
    ('run = "grid_runs"', "", "KeyError 'run'"),
    ('file = "{arm}-n{size}-seed{seed}"', "", "KeyError 'file'"),
    ("{size}-seed", "{sizes}-seed", "KeyError 'sizes'"),
    ("seed = [7]", "", "KeyError 'seed'"),
    ("seed = [7]", "seed = {a = 7}", "seed = {'a': 7}, not a value or a list of values"),
    ("run =", "check = {seed = {a = 1}}\nrun =", "TypeError"), ("run =", "check = [1]\nrun =", "TypeError"),
    ("where = {seed = 1}", "", "KeyError 'where'"),
    ("where = {seed = 1}", "where = {sed = 1}", r"settings where {'sed': 1} are for no point"),
    ("where = {seed = 1}", "where = {seed = 8}", r"settings where {'seed': 8} are for no point"),
    ("n{size}-seed", "seed", r"two points share the record base-seed0.json; name every axis"),
    ("grid_runs", "grid_walks", "no module 'grid_walks' to run"),
    ("grid_runs", "nowhere.at_all", "no module 'nowhere.at_all' to run"),
    ("[[grid]]", "[[grids]]", "KeyError 'grid'"),
    ("[[grid]]", "[grid]", "not a grid file"),
])
def test_a_bad_file_is_explained(tmp_path, old, new, message):
    (path := tmp_path / "bad.toml").write_text(GRID.replace(old, new))
    with pytest.raises(ValueError, match=message) as error:
        grids.load(path)
    assert str(path) in str(error.value)


def test_a_grid_without_runs_and_an_unknown_name_are_explained(tmp_path):
    (path := tmp_path / "none.toml").write_text('run = "grid_runs"\nfile = "{arm}"\n[[grid]]\narm = []\n')
    with pytest.raises(ValueError, match="no run in it"):
        grids.load(path)
    with pytest.raises(ValueError, match="no experiment 'data-sice'; there are .*data-size.*headline.*toml"):
        grids.load("data-sice")


@pytest.mark.parametrize("name", grids.names())
def test_every_grid_file_of_the_course_can_be_run(name):
    grid = grids.load(name)
    assert grid.points and all(isinstance(grid.settings_of(p), dict) for p in grid.points)
    assert callable(getattr(__import__(grid.run, fromlist=["run"]), "run"))


# --- running ----------------------------------------------------------------------------------------------------------

def test_recorded_runs_are_not_run_again(tmp_path, capsys):
    path = write_grid(tmp_path)
    assert experiments.run(path, results=tmp_path, seed=[1]) == 0
    assert "[1/1, 0 min left] ok-n10-seed1: 0 s" in capsys.readouterr().out
    assert experiments.run(path, results=tmp_path) == 0
    out = capsys.readouterr().out
    assert out.startswith("small: 1 of 3 runs are recorded already\n[1/2, ") and "seed1" not in out
    assert [run["seed"] for run in begun(tmp_path)] == [1, 0, 2]
    record = RunRecord.load(tmp_path / "small" / "ok-n10-seed2.json")
    assert (record.experiment, record.arm, record.size, record.seed) == ("small", "ok", 10, 2)


def test_several_processes_make_the_same_records(tmp_path):
    (one := tmp_path / "one").mkdir()
    (two := tmp_path / "two").mkdir()
    for folder, jobs in ((one, 1), (two, 2)):
        assert experiments.run(write_grid(folder, {"arm": ["ok", "bad"]}, pause=0.2), jobs=jobs, results=folder) == 3
    assert saved(one) == saved(two) and len(saved(one)) == 3
    assert {run["pid"] for run in begun(one)} == {os.getpid()}
    pids = {run["pid"] for run in begun(two)}
    assert len(begun(two)) == 6 and len(pids) == 2 and os.getpid() not in pids


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_is_noted_and_tried_again(tmp_path, capsys, jobs):
    path = write_grid(tmp_path, {"arm": ["bad", "exits", "nan", "ok"], "seed": [4]})
    assert experiments.run(path, jobs=jobs, results=tmp_path) == 3
    out = capsys.readouterr().out
    assert "bad-n10-seed4: failed, RuntimeError: nothing good comes of seed 4" in out and "SystemExit: 3" in out
    assert f"3 runs failed; the reasons are in {tmp_path / 'small' / 'failures'}" in out
    assert set(saved(tmp_path)) == {"ok-n10-seed4"}
    noted = failures(tmp_path)
    assert set(noted) == {"bad-n10-seed4", "exits-n10-seed4", "nan-n10-seed4"}
    assert noted["bad-n10-seed4"]["point"] == {"arm": "bad", "size": 10, "seed": 4}
    assert "Traceback" in noted["bad-n10-seed4"]["error"] and "grid_runs.py" in noted["bad-n10-seed4"]["error"]
    assert "not JSON compliant" in noted["nan-n10-seed4"]["error"]
    (tmp_path / "log.jsonl").unlink()
    assert experiments.run(path, jobs=jobs, results=tmp_path) == 3
    assert sorted(run["arm"] for run in begun(tmp_path)) == ["bad", "exits", "nan"]


def test_a_failure_that_is_mended_leaves_no_note(tmp_path):
    path = write_grid(tmp_path, {"arm": ["nan"], "seed": [0]})
    experiments.run(path, results=tmp_path)
    path.write_text(path.read_text().replace('["nan"]', '["ok"]').replace("'{arm}-", "'nan-"))
    assert set(failures(tmp_path)) == {"nan-n10-seed0"} and experiments.run(path, results=tmp_path) == 0
    assert failures(tmp_path) == {} and set(saved(tmp_path)) == {"nan-n10-seed0"}


def test_a_process_that_dies_costs_its_own_run_alone(tmp_path, capsys):
    """The two runs that kill their process end while a neighbour is in the middle of its own."""
    path = write_grid(tmp_path, {"arm": ["dies", "ok", "killed"], "seed": [0, 1]}, pause=0.3)
    assert experiments.run(path, jobs=2, results=tmp_path) == 4
    assert set(saved(tmp_path)) == {"ok-n10-seed0", "ok-n10-seed1"}
    assert {name: note["error"] for name, note in failures(tmp_path).items()} == dict.fromkeys(
        ["dies-n10-seed0", "dies-n10-seed1", "killed-n10-seed0", "killed-n10-seed1"], "the process died: out of memory, or killed")
    assert len(begun(tmp_path)) == 6 and "dies-n10-seed0: failed, the process died" in capsys.readouterr().out


def start(path, folder, jobs):
    """The grid in a process group of its own, as a terminal would start it."""
    return subprocess.Popen([sys.executable, "-c", DRIVER, path, str(jobs), folder], start_new_session=True, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(RUNS)})


def alive(pid) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return b") Z " not in open(f"/proc/{pid}/stat", "rb").read() if os.path.exists("/proc/self/stat") else True


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_grid_goes_on_where_it_was(tmp_path, jobs):
    """kill -9 in the middle, again and again: no finished run is repeated, and the records are those of an undisturbed grid."""
    (whole := tmp_path / "whole").mkdir()
    (broken := tmp_path / "broken").mkdir()
    axes = {"seed": [0, 1, 2, 3, 4, 5]}
    assert experiments.run(write_grid(whole, axes, pause=0.3), results=whole) == 0
    path, repeated = write_grid(broken, axes, pause=0.3), 0
    for finished in (1, 3):
        driver = start(path, broken, jobs)
        wait_for(lambda: len(saved(broken)) >= finished)
        driver.kill()
        driver.wait()
        pids = {run["pid"] for run in begun(broken)}
        wait_for(lambda: not any(map(alive, pids)), 30)  # its processes go with it
        repeated = len(begun(broken)) - len(saved(broken))
        assert repeated <= 2 * jobs
    assert experiments.run(path, results=broken) == 0
    assert saved(broken) == saved(whole) and len(saved(whole)) == 6
    assert len(begun(broken)) == 6 + repeated


def test_processes_end_without_leaving_locks_behind(tmp_path):
    driver = start(write_grid(tmp_path, {"arm": ["locks"]}), tmp_path, 2)
    _, errors = driver.communicate(timeout=100)
    assert (driver.returncode, errors) == (0, "") and len(saved(tmp_path)) == 3


def heed_ctrl_c():
    """A shell starts what it puts in the background deaf to Ctrl-C, the tests perhaps among it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_stops_and_says_how_to_go_on(tmp_path, jobs):
    path = write_grid(tmp_path, {"seed": [0, 1, 2, 3]}, pause=60)
    driver = subprocess.Popen([sys.executable, "-m", "rftlab", "experiment", path, "--jobs", str(jobs)], text=True,
                              start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
                              preexec_fn=heed_ctrl_c,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join([str(RUNS), str(RUNS.parent)])})
    wait_for(lambda: len(begun(tmp_path)) == jobs)
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate(timeout=50)
    assert driver.returncode == 130
    assert errors == "\nstopped; small goes on with what has no record when you give the same command again\n"
    assert not any(alive(run["pid"]) for run in begun(tmp_path))


def test_bad_choices_of_a_place_to_run(tmp_path):
    path = write_grid(tmp_path)
    with pytest.raises(ValueError, match='on=\'mars\'; expected "here" or "ray"'):
        experiments.run(path, on="mars", results=tmp_path)
    with pytest.raises(ValueError, match="no seed 9"):
        experiments.run(path, seed=[9], results=tmp_path)
    assert begun(tmp_path) == []


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_process_at_all_is_refused(tmp_path, jobs):
    grid = grids.load(write_grid(tmp_path))
    for todo in (grid.points, []):
        with pytest.raises(ValueError, match=f"jobs must be at least 1, got {jobs}"):
            list(processes.results(grid, todo, jobs, tmp_path))
    with pytest.raises(ValueError, match=f"jobs must be at least 1, got {jobs}"):
        experiments.run(tmp_path / "small.toml", jobs=jobs, results=tmp_path)
    assert begun(tmp_path) == []


# --- checking ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [2, 3, 10, 30])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.9875])
def test_prediction_interval_is_that_of_scipy(n, confidence):
    values = list(np.random.default_rng(n).normal(0.6, 0.05, n))
    expected = scipy.stats.t.interval(confidence, n - 1, np.mean(values), np.std(values, ddof=1) * np.sqrt(1 + 1 / n))
    assert experiments.prediction_interval(values, confidence) == pytest.approx(expected, rel=1e-5)


def test_prediction_interval_holds_one_more_value_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = rng.normal(0.6, 0.05, (600, 6))
    inside = sum(low <= one <= high for *seen, one in draws.tolist()
                 for low, high in [experiments.prediction_interval(seen, 0.9)])
    assert 0.863 < inside / 600 < 0.937  # three standard errors


def test_prediction_interval_of_one_value_is_itself():
    assert experiments.prediction_interval([0.3]) == (0.3, 0.3)


@pytest.fixture
def recorded(tmp_path):
    """Five seeds on record, of accuracies 0.50 to 0.54, each with an interval from 0.4 to 0.6 of its own."""
    path = write_grid(tmp_path, {"seed": [0, 1, 2, 3, 4]})
    assert experiments.run(path, results=tmp_path) == 0
    (tmp_path / "log.jsonl").unlink()
    return tmp_path, path


def test_check_runs_a_slice_again_and_writes_nothing(recorded, capsys):
    folder, path = recorded
    before = {p: p.read_bytes() for p in (folder / "small").rglob("*")}
    assert experiments.check(path, count=3, draw_seed=0, results=folder) is True
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.startswith("inside: ok-n10-seed") and "from 5 seeds" in line for line in lines)
    assert len({run["seed"] for run in begun(folder)}) == len(begun(folder)) == 3
    assert {p: p.read_bytes() for p in (folder / "small").rglob("*")} == before


def test_check_repeats_what_the_grid_file_names_for_it(recorded, capsys):
    folder, path = recorded
    path.write_text("check = {seed = [3]}\n" + path.read_text())
    assert experiments.check(path, results=folder) is True
    assert experiments.check(path, results=folder, seed=[1], arm=None) is True  # unless one says otherwise
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("inside")] == ["ok-n10-seed3", "ok-n10-seed1"]
    path.write_text(path.read_text().replace("{seed = [3]}", "{seed = [9]}"))
    with pytest.raises(ValueError, match="no seed 9 in experiment small"):
        experiments.check(path, results=folder)


@pytest.mark.parametrize("accuracy, inside", [(0.401, True), (0.599, True), (0.3, False), (0.7, False)])
def test_check_tells_inside_from_outside(recorded, capsys, accuracy, inside):
    folder, path = recorded
    write_grid(folder, {"seed": [0, 1, 2, 3, 4]}, accuracy=accuracy)
    assert experiments.check(path, count=1, draw_seed=1, results=folder, seed=[2]) is inside
    assert f"{'inside' if inside else 'outside'}: ok-n10-seed2 {accuracy:.3f}, recorded 0.520, interval 0.400 to 0.600 from 5 seeds" \
        in capsys.readouterr().out


def test_check_uses_the_spread_of_the_seeds(recorded, capsys):
    """Where one run's own interval is narrower than the spread over seeds, the prediction interval decides."""
    folder, path = recorded
    means = [0.2, 0.3, 0.4, 0.5, 0.6]
    for seed, mean in enumerate(means):
        record = RunRecord.load(file := folder / "small" / f"ok-n10-seed{seed}.json")
        record.final["accuracy"] = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "n": 100}
        record.save(file)
    low, high = experiments.prediction_interval(means, 0.95)
    for accuracy, inside in ((low + 0.01, True), (high - 0.01, True), (low - 0.01, False), (high + 0.01, False)):
        write_grid(folder, {"seed": [0, 1, 2, 3, 4]}, accuracy=accuracy)
        assert experiments.check(path, count=1, results=folder) is inside
    low, high = experiments.prediction_interval(means, 1 - 0.05 / 5)  # wider: five comparisons at once
    write_grid(folder, {"seed": [0, 1, 2, 3, 4]}, accuracy=high - 0.01)
    assert experiments.check(path, count=5, results=folder) is True


def test_check_counts_a_failure_as_outside(recorded, capsys):
    folder, path = recorded
    path.write_text(path.read_text().replace('["ok"]', '["bad"]').replace("'{arm}-", "'ok-"))
    assert experiments.check(path, count=2, results=folder) is False
    assert capsys.readouterr().out.count("failed, RuntimeError: nothing good") == 2


def test_a_check_of_nothing_is_refused(tmp_path):
    path = write_grid(tmp_path)
    with pytest.raises(ValueError, match="small has no such record to check"):
        experiments.check(path, results=tmp_path)
    with pytest.raises(ValueError, match="a check of 0 runs"):
        experiments.check(path, count=0, results=tmp_path)


# --- the command line -------------------------------------------------------------------------------------------------

def test_the_command_runs_and_checks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "results_folder", lambda: tmp_path)
    path = str(write_grid(tmp_path, {"arm": ["ok", "bad"]}))
    assert main(["experiment", path, "--arm", "ok", "--seeds", "0", "1"]) == 0
    assert set(saved(tmp_path)) == {"ok-n10-seed0", "ok-n10-seed1"}
    assert main(["experiment", path, "--seed", "0", "--check"]) == 0
    assert "inside: ok-n10-seed0 0.500" in capsys.readouterr().out
    assert main(["experiment", path, "--check", "1", "--arm", "bad"]) == 1
    assert "no such record to check" in capsys.readouterr().err
    assert main(["experiment", path, "--arm", "bad", "--seed", "2"]) == 1
    assert "1 run failed; the reason is in" in capsys.readouterr().out
    write_grid(tmp_path, {"arm": ["ok", "bad"]}, accuracy=0.9)
    assert main(["experiment", path, "--check", "2"]) == 1
    assert capsys.readouterr().out.count("outside") == 2


def test_values_that_no_run_has_together_are_refused(tmp_path):
    (tmp_path / "some.toml").write_text(GRID.replace('"grid_runs"', '"rftlab.data_size"'))
    for call in (experiments.run, experiments.check):
        with pytest.raises(ValueError, match=r"no run of experiment some has all of arm \['few-shot'\], size \[10\]"):
            call(tmp_path / "some.toml", results=tmp_path, arm=["few-shot"], size=[10], seed=None)


@pytest.mark.parametrize("arguments, message", [
    (["--jobs", "0"], "--jobs must be at least 1, got 0"),
    (["--arms", "magic"], "no arm 'magic' in experiment small; there is ok"),
])
def test_bad_arguments_are_one_clear_line(tmp_path, capsys, arguments, message):
    assert main(["experiment", str(write_grid(tmp_path)), *arguments]) == 1
    assert capsys.readouterr().err == f"ValueError: {message}\n"
