"""Tables, curves and verdicts of the kernel writer, on records made by hand: none, one seed, three seeds."""
import pytest

from rftlab import evaluate, grids, kernel_plots, kernel_report, significance
from rftlab.kernels.grader import SCORES
from rftlab.kernels.writing import STAGES
from rftlab.records import RunRecord


def a_run(before=0.10, after=0.60, seed=0, reward="ladder", right=(0.0, 0.1, 0.2, 0.3), wrong=(0.5, 0.6, 0.7, 0.7), n=50, arm="rft", **config):
    """A run of two steps of warm-up and four of GRPO; the rest of the completions break a rule."""
    metrics = [{"step": i, "phase": "sft", "loss": 1.0, "seconds_update": 30.0} for i in (1, 2)]
    for i, (r, w) in enumerate(zip(right, wrong)):
        shares = {f"share_{s}": 0.0 for s in STAGES} | {"share_correct": r, "share_wrong": w, "share_rules": 1 - r - w}
        metrics.append({"step": i + 3, "phase": "rft", "reward": r + 0.6 * w, "length": 50.0, "seconds_rollout": 60.0, "seconds_reward": 6.0,
                        "seconds_update": 30.0, **shares, **({"accuracy": r} if i % 2 else {})})
    final = {}
    for name, value in (("accuracy_before", before), ("accuracy", after), ("accuracy_reduction_before", 0.0), ("accuracy_reduction", after),
                        ("pass@4_before", 0.2), ("pass@4", 0.4)):
        final[name] = evaluate.wilson(round(value * n), n).to_dict()
    settings = {"passes": 12, "reward": reward, "samples": 4, "max_new_tokens": 128, "lr": 4e-4, "steps": 40, "round": 10,
                **config}
    return RunRecord("kernel-grpo", arm, "kernels", "smollm2", 13, seed, settings, metrics=metrics, final=final)


def test_stages_are_those_of_the_grader():
    assert kernel_report.STAGES == STAGES == tuple(s for s in SCORES if s != "grader") == tuple(kernel_plots.COLOURS) == tuple(kernel_plots.MEANS)


def test_nothing_recorded_is_no_error(tmp_path):
    assert kernel_report.load(folder=tmp_path) == [] == kernel_report.families([])
    assert kernel_report.by_recipe([]) == {} and kernel_report.curve([], "reward") == ([], [])
    assert kernel_report.level([], "accuracy") is None and kernel_report.stood_still([]) == ""
    assert all(recorded == 0 < planned for planned, recorded in kernel_report.progress(tmp_path).values())


def test_progress_counts_the_files_of_the_grid(tmp_path):
    grid = grids.load("kernel-grpo")
    a_run().save(grid.path(grid.points[0], tmp_path))
    a_run().save(tmp_path / "kernel-grpo" / "another-file.json")
    assert kernel_report.progress(tmp_path)["kernel-grpo"] == (len(grid.points), 1)
    assert len(kernel_report.load(folder=tmp_path)) == 2


def test_runs_of_one_recipe_come_together_in_the_order_of_their_seeds():
    runs = [a_run(seed=1), a_run(seed=0), a_run(reward="steep", passes=24), a_run(arm="base", passes=0), a_run(arm="sft", passes=7), a_run(seeded=3),
            a_run(lr=5e-5, operations=2)]
    tutorial, found = "12 passes, 40 steps of GRPO paid by ladder at 0.0004", kernel_report.by_recipe(runs)
    assert list(found) == ["7 passes", tutorial, f"{tutorial}, 3 examples cheat", "12 passes, 40 steps of GRPO paid by ladder at 5e-05, at most 2 operations",
                           "24 passes, 40 steps of GRPO paid by steep at 0.0004", "no training"]
    assert [run.seed for run in found[tutorial]] == [0, 1]


def test_one_seed_has_the_interval_of_its_evaluation():
    one = kernel_report.level([a_run()], "accuracy")
    wilson = evaluate.wilson(30, 50)
    assert (one.mean, one.low, one.high, one.seeds, one.n) == (wilson.mean, wilson.low, wilson.high, 1, 50)
    assert kernel_report.level([a_run()], "heldout") is None


def test_three_seeds_have_an_interval_over_seeds():
    """By hand: mean 0.6, standard deviation 0.1, t(0.975, 2) = 4.303, so 0.6 +- 0.248."""
    three = kernel_report.level([a_run(after=v, seed=i) for i, v in enumerate((0.5, 0.6, 0.7))], "accuracy")
    assert (three.mean, three.seeds) == (pytest.approx(0.6), 3)
    assert (three.low, three.high) == pytest.approx((0.352, 0.848), abs=1e-3)


@pytest.mark.parametrize("runs, said", [
    ([a_run(0.10, 0.60)], "higher"), ([a_run(0.60, 0.10)], "lower"), ([a_run(0.40, 0.50)], "no difference shown"),
    ([a_run(0.40, 0.50 + i / 50, seed=i) for i in range(3)], "higher"), ([a_run(0.40, v, seed=i) for i, v in enumerate((0.2, 0.5, 0.6))], "no difference shown"),
])
def test_verdicts(runs, said):
    assert kernel_report.verdict(runs, "accuracy", "accuracy_before") == said
    assert kernel_report.verdict(runs, "accuracy", "nothing") == "not measured"


@pytest.mark.parametrize("gained, lost, said", [(8, 0, "higher"), (0, 8, "lower"), (14, 8, "no difference shown"), (3, 0, "no difference shown")])
def test_one_seed_is_compared_function_by_function(gained, lost, said):
    """The intervals of 20 of 50 and of 28 of 50 overlap; that eight functions were gained and none lost does not happen by chance."""
    run = a_run(20 / 50, (20 + gained - lost) / 50)
    after = [0.0] * lost + [1.0] * gained + [float(i < 20 - lost) for i in range(50 - lost - gained)]
    before = [1.0] * lost + [0.0] * gained + after[lost + gained:]
    run.notes["outcomes"] = {"accuracy": after, "accuracy_before": before}
    assert kernel_report.verdict([run], "accuracy", "accuracy_before") == said
    run.notes.clear()
    assert kernel_report.verdict([run], "accuracy", "accuracy_before") == "no difference shown"


def test_changes_are_paired_by_seed():
    plain = [a_run(after=0.5, seed=0), a_run(after=0.6, seed=1)]
    changed = [a_run(after=0.6, seed=0, change="kl"), a_run(after=0.7, seed=1, change="kl"), a_run(after=0.9, seed=2, change="kl"),
               a_run(after=0.2, seed=0, change="arm", arm="sft")]
    found = kernel_report.differences(changed, plain)
    assert set(found) == {"kl", "sft"} and found["kl"].mean == pytest.approx(0.1) and found["kl"].n == 2 and found["sft"].n == 1
    assert str(found["sft"]) == "-0.30, 1 seed" and kernel_report.differences([], plain) == {}


def test_recipes_one_setting_apart_are_compared_seed_by_seed():
    """By hand: the ladder's runs are 0.4 and 0.6 below; that of 24 passes and another rate is two settings away."""
    recipes = {"plain": [a_run(after=v, seed=i, reward="correct") for i, v in enumerate((0.5, 0.7, 0.9))],
               "ladder": [a_run(after=0.1, seed=i) for i in (1, 0)], "lonely": [a_run(seed=9, reward="steep")],
               "far": [a_run(after=0.5, reward="correct", passes=24, lr=1.0)]}
    found = kernel_report.one_apart(recipes, "plain")
    assert list(found) == ["reward ladder, not correct"]
    assert found["reward ladder, not correct"].mean == pytest.approx(-0.5) and found["reward ladder, not correct"].n == 2
    assert str(kernel_report.one_apart(recipes, "far")) == "{}"


def test_families_and_the_k_that_was_sampled():
    assert kernel_report.families([a_run()]) == ["reduction"] and kernel_report.families([a_run()], "heldout") == []
    assert kernel_report.of_k([a_run()]) == "pass@4"


def test_curves_begin_with_grpo_and_are_means_over_seeds():
    runs = [a_run(), a_run(seed=1, right=(0.2, 0.3, 0.4, 0.5), wrong=(0.5, 0.6, 0.6, 0.5))]
    steps, right = kernel_report.curve(runs, "share_correct")
    assert steps == [1, 2, 3, 4] and right == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert kernel_report.curve(runs, "share_correct", smooth=3)[1] == pytest.approx([0.15, 0.2, 0.3, 0.35])
    assert kernel_report.curve(runs, "accuracy") == ([2, 4], pytest.approx([0.2, 0.4]))
    assert kernel_report.curve([a_run(), a_run(right=(0.1, 0.2), wrong=(0.1, 0.1))], "reward")[0] == [1, 2]


def test_rungs_by_hand():
    passed = kernel_report.passed(kernel_report.shares([a_run()])[1])
    assert passed["is Python"] == pytest.approx([1.0] * 4) and passed["keeps the rules"] == passed["runs"] == pytest.approx([0.5, 0.7, 0.9, 1.0])
    assert passed["is right"] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert [kernel_report.learnt(passed["runs"], share, window=2) for share in (0.5, 0.7, 0.95, 0.99)] == [1, 2, 3, None]
    assert kernel_report.learnt([1.0], 0.5, window=2) is None and kernel_report.ends([0.0, 0.2, 0.4], 2) == pytest.approx((0.1, 0.3))


@pytest.mark.parametrize("right, wrong, said", [
    ((0.0, 0.1, 0.3, 0.5), (0.6, 0.6, 0.6, 0.5), "it rose by kernels that are right"),
    ((0.0, 0.0, 0.1, 0.1), (0.2, 0.5, 0.8, 0.9), "comfortable rung"),
    ((0.2, 0.1, 0.1, 0.0), (0.7, 0.8, 0.8, 0.9), "what was right was lost to the comfortable rung"),
    ((0.2, 0.2, 0.1, 0.2), (0.6, 0.6, 0.7, 0.6), "the reward did not rise"),
    ((0.2, 0.1, 0.1, 0.0), (0.8, 0.7, 0.6, 0.6), "the reward did not rise"),
])
def test_the_comfortable_rung_is_told_from_skill(right, wrong, said):
    assert said in kernel_report.stood_still([a_run(right=right, wrong=wrong)], window=2)


def test_pay_for_right_kernels_alone_cannot_rise_on_another_rung():
    runs = [a_run(right=(0.0, 0.0, 0.1, 0.1), wrong=(0.2, 0.5, 0.8, 0.9), reward="correct")]
    assert "it rose by kernels that are right" in kernel_report.stood_still(runs, window=2)


def test_recipes_that_differ_in_their_steps_are_told_apart():
    assert [kernel_report.recipe(a_run(arm="rejection-rft", steps=steps)) for steps in (80, 160)] == [
        "12 passes, 4 rounds of rejection sampling, 40 steps of GRPO paid by ladder at 0.0004",
        "12 passes, 8 rounds of rejection sampling, 80 steps of GRPO paid by ladder at 0.0004"]
    assert kernel_report.recipe(a_run(arm="rejection", steps=80)) == "12 passes, 8 rounds of rejection sampling"
    assert kernel_report.recipe(a_run(arm="rft-repair")) == "12 passes, 40 steps of GRPO with second turns paid by ladder at 0.0004"


def test_the_summary_has_one_line_for_each_recipe_of_three_seeds_the_best_first():
    runs = [a_run(after=v, seed=i) for i, v in enumerate((0.2, 0.3, 0.4))] + [a_run(after=0.9, seed=i, reward="correct") for i in range(3)]
    lines = kernel_report.summary(kernel_report.by_recipe([*runs, a_run(after=1.0, lr=1.0), a_run(arm="base", passes=0)])).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == [f"| 12 passes, 40 steps of GRPO paid by {pay} at 0.0004" for pay in ("correct", "ladder")]
    assert lines[3].split(" | ")[1:4:2] == ["3", "0.30 [0.05, 0.55]"] and "0.20, 0.30, 0.40" in lines[3] and lines[4] == "" and len(lines) == 6


def test_publish_writes_the_summary_into_the_readme(tmp_path):
    for i in range(3):
        a_run(seed=i).save(tmp_path / "data" / "results" / "kernel-grpo" / f"{i}.json")
    (tmp_path / "README.md").write_text("before\n<!-- kernels -->\n<!-- /kernels -->\nafter\n")
    kernel_report.publish(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n<!-- kernels -->\n| recipe |") and text.endswith("\n<!-- /kernels -->\nafter\n") and "40 steps of GRPO" in text


def test_minutes_by_hand():
    assert kernel_report.minutes([a_run(), a_run(seed=1)]) == pytest.approx({"warm-up": 1.0, "rollouts": 4.0, "grading": 0.4, "updates": 2.0})


def test_minutes_of_rejection_sampling_add_up_to_those_of_the_record():
    run = a_run(arm="rejection")
    run.metrics = [{"phase": "sft", "seconds_update": 60.0}, {"phase": "sample", "share_correct": 0.5}, {"phase": "sft", "seconds_update": 30.0}]
    run.seconds = 60.0 + 240.0 + 30.0
    assert kernel_report.minutes([run]) == pytest.approx({"warm-up": 1.0, "rollouts": 4.0, "grading": 0.0, "updates": 0.5})


LOAD = "    x = tl.load(x_ptr + i, mask=m)\n"


@pytest.mark.parametrize("body, nothing", [
    (LOAD + "    tl.store(out_ptr + i, x, mask=m)", True), ("    tl.store(out_ptr + i, tl.load(x_ptr + i), mask=m)", True),
    (LOAD + "    tl.store(out_ptr + i, x + 1.0, mask=m)", False), (LOAD + "    y = tl.exp(x)\n    tl.store(out_ptr + i, y)", False),
    (LOAD, False), ("    tl.store((", False), ("", False), ("    tl.store(out_ptr, q)", False),
])
def test_the_safe_nothing_is_recognised(body, nothing):
    assert kernel_report.stores_an_input(body) is nothing


def test_samples_before_and_after_belong_together():
    run = a_run()
    run.notes["samples"] = {"before": [{"task": "sub", "text": "a"}, {"task": "lerp", "text": "b"}], "after": [{"task": "lerp", "text": "c"}]}
    assert kernel_report.samples(run) == [({"task": "lerp", "text": "b"}, {"task": "lerp", "text": "c"})] and kernel_report.samples(a_run()) == []


@pytest.mark.parametrize("seeds", [1, 3])
def test_pictures_show_what_the_records_say(seeds):
    import matplotlib

    matplotlib.use("Agg")
    runs = [a_run(seed=i) for i in range(seeds)]
    ax = kernel_plots.draw_ladder(runs, smooth=1, title="a finding")
    assert len(ax.collections) == 6 and ax.get_ylim() == (0, 1) and "step" in ax.get_xlabel() and "share" in ax.get_ylabel()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(kernel_plots.MEANS.values())
    ax = kernel_plots.draw_climb({"a recipe": runs}, title="another")
    assert len([line for line in ax.lines if len(line.get_xdata()) == 2]) >= 1 + (seeds if seeds > 1 else 0)
    assert any("0.10 -> 0.60" in text.get_text() for text in ax.texts) and ax.get_legend().get_texts()[0].get_text() == "a recipe"


@pytest.mark.parametrize("seeds", [1, 2])
def test_hacks_are_drawn_beside_what_is_right(seeds):
    import matplotlib

    matplotlib.use("Agg")
    recipes = {pay: [a_run(seed=i, reward=pay) for i in range(seeds)] for pay in ("naive", "correct")}
    for run in recipes["naive"]:
        for m in run.metrics[2:]:
            m["share_hack"] = 0.5
    for run in recipes["correct"]:
        for m in run.metrics[2:]:
            m["share_hack"] = 0.0
    ax = kernel_plots.draw_hacks(recipes, smooth=1, title="a finding")
    assert len(ax.lines) == 4 * (1 if seeds == 1 else 3) and ax.get_ylim() == (0, 1)
    bold = [line for line in ax.lines if "hacks" in str(line.get_label())]
    assert [set(line.get_ydata()) for line in bold] == [{0.5}, {0.0}]


def test_changes_are_drawn_from_the_largest_loss_up():
    import matplotlib

    matplotlib.use("Agg")
    found = {"better": significance.paired([0.1, 0.12, 0.11], floor=0.02), "one": significance.paired([-0.5]), "worse": significance.paired([-0.2, -0.22])}
    ax = kernel_plots.draw_changes(found, title="a finding")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["one", "worse", "better"]
    assert len(ax.containers) == 3 and [bool(c.has_xerr) for c in ax.containers] == [False, True, True]
