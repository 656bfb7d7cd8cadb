"""The reward-mix experiment pays each arm as it says, measures all four rewards in every arm, and bears out notebook 02."""
import pytest

import rftlab
from rftlab import experiments, grids, records, reward_mix
from rftlab.tasks.arithmetic import make_problem

TASK = rftlab.load_task("arithmetic")
WORK = "<think>4+8=12 carry 1; 3+5+1=9</think><answer>92</answer>"


def group(*completions):
    problem = make_problem(34, "+", 58)
    return {"prompts": [problem.prompt] * len(completions), "completions": list(completions),
            "problem": [problem] * len(completions), "step": 0}


@pytest.mark.parametrize("arm, work, estimate", [
    ("accuracy", 1.0, 0.0), ("accuracy-format", 1.2, 0.0), ("accuracy-brevity", 1.0, 0.2), ("accuracy-diversity", 1.2, 0.2),
    ("all-four", 1.4, 0.4), ("format-only", 1.0, 0.0),
])
def test_an_arm_pays_what_it_says(arm, work, estimate):
    """By hand for a right worked answer of 57 characters in tags and a short wrong one; the two share no trigram."""
    paid = reward_mix.reward_for(arm, TASK, seed=0)(**group(WORK, "About 80."))
    assert paid == pytest.approx([work, estimate])


def test_a_coin_is_blind_and_depends_on_seed_and_step():
    answers = group(*[WORK] * 64)
    coin = [reward_mix.reward_for("rft-random", TASK, seed)(**answers) for seed in (0, 0, 1)]
    assert coin[0] == coin[1] != coin[2] and set(coin[0]) == {0.0, 1.0}
    assert reward_mix.reward_for("rft-random", TASK, 0)(**{**answers, "step": 1}) != coin[0]


@pytest.mark.parametrize("arm", reward_mix.PAID)
def test_every_arm_measures_all_four(arm):
    logged = {}
    reward_mix.reward_for(arm, TASK, 0)(**group(WORK, "92"), log_metric=lambda name, value: logged.update({name: value}))
    assert {f"reward_parts/{name}" for name in ("verifier", "think_format", "brevity", "diversity")} <= set(logged)


def test_a_run_leaves_a_whole_record(tmp_path):
    (path := tmp_path / "short.toml").write_text('run = "rftlab.reward_mix"\nfile = "{arm}-seed{seed}"\n[[grid]]\n'
                                                 'arm = ["all-four"]\nseed = [3]\n[[settings]]\nwhere = {}\nsteps = 1\n')
    assert experiments.run(path, results=tmp_path) == 0
    record = records.RunRecord.load(tmp_path / "short" / "all-four-seed3.json")
    assert set(record.final) == {f"{name}{when}" for name in ("accuracy", "format", "length") for when in ("", "_before")}
    assert (record.arm, record.seed, record.size, len(record.metrics)) == ("all-four", 3, reward_mix.TRAIN, 1)
    assert len(record.notes["samples"]) == 4


def test_an_unknown_arm_is_named(tmp_path):
    with pytest.raises(ValueError, match="no arm 'creativity'.*accuracy-diversity"):
        experiments.run("reward-mix", arm=["creativity"], results=tmp_path)


def test_the_records_bear_out_notebook_02():
    runs = {(run.arm, run.seed): run for run in records.load_all("reward-mix")}
    points = grids.load("reward-mix").points
    seeds = sorted({p["seed"] for p in points})
    assert set(runs) == {(p["arm"], p["seed"]) for p in points} == {(arm, seed) for arm in reward_mix.PAID for seed in seeds}
    assert len(seeds) >= 5

    def final(arm, name):
        return [runs[arm, seed].final[name]["mean"] for seed in seeds]

    for arm, paid in reward_mix.PAID.items():
        assert min(final(arm, "accuracy")) > 0.9 if "verifier" in paid else max(final(arm, "accuracy")) < 0.35
    assert min(final("accuracy-format", "format")) > 0.95 > 0.5 > max(final("accuracy-brevity", "format"))
    assert min(final("all-four", "format")) > 0.9
    # one run tells a story behind its answer, and only its length shows it
    long = [seed for seed in seeds if runs["accuracy-diversity", seed].final["length"]["mean"] > 30]
    assert len(long) == 1 and runs["accuracy-diversity", long[0]].final["accuracy"]["mean"] > 0.95
    # a coin that looks like learning at step 20 and is ruin at step 60
    coin = [runs["rft-random", seed].curve("accuracy")[1] for seed in seeds]
    assert max(curve[0] for curve in coin) > 0.6 and max(curve[-1] for curve in coin) < 0.1
