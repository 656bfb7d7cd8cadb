import colorsys
import subprocess
import sys
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

import rftlab
from rftlab import drawing, plots
from rftlab.evaluate import Estimate


@pytest.fixture(autouse=True)
def closed_figures():
    with matplotlib.rc_context():
        yield
    plt.close("all")


def record(arm, rewards, before=0.1, after=0.5, start=0):
    return {
        "arm": arm,
        "metrics": [{"step": start + i, "reward": reward} for i, reward in enumerate(rewards)],
        "final": {
            "accuracy_before": {"mean": before, "low": before - 0.05, "high": before + 0.06, "n": 200},
            "accuracy": {"mean": after, "low": after - 0.07, "high": after + 0.08, "n": 200},
        },
    }


def labels(ax):
    return {text.get_text(): text for text in ax.texts}


# --- learning_curve ---


def test_curve_is_the_mean_over_seeds_in_a_band_of_their_range():
    ax = plots.learning_curve([record("rft", [0.0, 0.2, 0.4]), record("rft", [0.2, 0.2, 1.0])], title="It rises")
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert line.get_ydata() == pytest.approx([0.1, 0.2, 0.7])
    (band,) = ax.collections
    corners = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert {(0, 0.0), (0, 0.2), (1, 0.2), (2, 0.4), (2, 1.0)} <= corners
    assert ax.get_title(loc="left") == "It rises"
    assert ax.get_xlabel() == "training step; mean and range of 2 seeds"
    assert ax.get_ylabel() == "reward (mean per completion)"
    assert ax.get_ylim()[0] == 0


def test_each_arm_has_its_line_colour_and_label():
    ax = plots.learning_curve([record("rft", [0, 1]), record("rft-random", [0, 0]), record("mine", [0, 0.5])])
    assert [line.get_label() for line in ax.lines] == ["rft", "rft-random", "mine"]
    assert [line.get_color() for line in ax.lines] == [
        drawing.ARMS["rft"], drawing.ARMS["rft-random"], plots.PALETTE[2]
    ]  # fmt: skip
    assert not ax.collections  # one seed has no band
    assert {name: text.get_color() for name, text in labels(ax).items()} == {
        line.get_label(): line.get_color() for line in ax.lines
    }
    assert ax.get_xlabel() == "training step"
    mixed = plots.learning_curve([record("rft", [0, 1]), record("rft", [0, 1]), record("base", [0, 0])])
    assert mixed.get_xlabel().endswith("of 1 to 2 seeds")


def test_smoothing_averages_each_seed_and_says_so():
    ax = plots.learning_curve([record("rft", [0.0, 3.0, 6.0, 0.0])], smooth=3)
    assert ax.lines[0].get_ydata() == pytest.approx([1.5, 3.0, 3.0, 3.0])
    assert "average over 3 steps" in ax.get_xlabel()
    peaks = [record("rft", [0.0, 1.0, 0.0]), record("rft", [1.0, 0.0, 1.0])]
    band = plots.learning_curve(peaks, smooth=3).collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(2 / 3)


def test_steps_that_a_seed_lacks_are_left_out():
    ax = plots.learning_curve([record("rft", [0.1, 0.2, 0.3]), record("rft", [0.4, 0.5, 0.6], start=1)])
    assert ax.lines[0].get_xdata().tolist() == [1, 2]
    assert ax.lines[0].get_ydata() == pytest.approx([0.3, 0.4])


def test_sparse_metrics_and_record_objects():
    one = SimpleNamespace(arm="rft", metrics=[{"step": 0, "accuracy": 0.1}, {"step": 1}, {"step": 2, "accuracy": None},
                                              {"step": 3, "accuracy": 0.4}])  # fmt: skip
    ax = plots.learning_curve([one], "accuracy")
    assert ax.lines[0].get_xdata().tolist() == [0, 3]
    assert ax.get_ylabel() == "held-out accuracy (share of problems)"


def test_negative_values_are_not_cut_off():
    ax = plots.learning_curve([record("rft", [-0.5, 0.5])])
    assert ax.get_ylim()[0] < -0.5


def test_draws_into_the_given_axes():
    figure, axes = plt.subplots(1, 2)
    assert plots.learning_curve([record("rft", [0, 1])], ax=axes[1]) is axes[1]
    assert plots.before_after([record("rft", [0, 1])], axes[0]) is axes[0]
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda: plots.learning_curve([]), "data/results"),
        (lambda: plots.learning_curve([record("rft", [0])], "kl"), "it has reward, step"),
        (lambda: plots.learning_curve([record("rft", [0])], smooth=0), "smooth=0"),
        (lambda: plots.learning_curve([record("rft", [0]), record("rft", [0], start=5)]), "no step in common"),
        (lambda: plots.before_after([]), "data/results"),
        (lambda: plots.before_after([{**record("rft", [0]), "final": {}}]), "accuracy_before"),
        (lambda: plots.bars(["a"], []), "one estimate a label"),
        (lambda: plots.bars([], []), "0 labels"),
        (lambda: plots.Live().finish(), "no metric 'reward'"),
    ],
)
def test_errors_say_what_is_wrong(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
    assert plt.get_fignums() == []  # and leave no empty figure behind


# --- before_after and bars ---


def test_before_after_of_seeds():
    ax = plots.before_after([record("rft", [0], 0.1, 0.5), record("rft", [0], 0.2, 0.7), record("base", [0], 0.1, 0.1)])
    by_label = {line.get_label(): line for line in ax.lines}
    assert by_label["rft"].get_ydata() == pytest.approx([0.15, 0.6])
    assert by_label["base"].get_ydata() == pytest.approx([0.1, 0.1])
    seeds = [line for line in ax.lines if line.get_color() == drawing.ARMS["rft"] and line.get_label() != "rft"]
    assert [list(line.get_ydata()) for line in seeds] == [[0.1, 0.5], [0.2, 0.7]]
    assert "rft  0.15 → 0.60" in labels(ax)
    assert ax.get_xlabel() == "n=200; mean of 1 to 2 seeds"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["before training", "after training"]


def test_before_after_of_one_seed_has_the_interval_of_its_evaluation():
    ax = plots.before_after([record("rft", [0], 0.1, 0.5)])
    (whiskers,) = ax.collections
    segments = np.array([[[0, 0.05], [0, 0.16]], [[1, 0.43], [1, 0.58]]])
    assert np.array(whiskers.get_segments()) == pytest.approx(segments)
    assert ax.get_xlabel() == "n=200"


def test_bars_and_their_intervals():
    estimates = [Estimate(0.1, 0.06, 0.15, 200), {"mean": 0.5, "low": 0.43, "high": 0.57, "n": 200}]
    ax = plots.bars(["base", "rft"], estimates, title="RFT wins", reference=(0.3, "guessing"))
    assert [patch.get_width() for patch in ax.patches] == [0.1, 0.5]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["base", "rft"]
    assert ax.yaxis_inverted()  # the first bar is on top
    (whiskers,) = ax.collections
    segments = np.array([[[0.06, 0], [0.15, 0]], [[0.43, 1], [0.57, 1]]])
    assert np.array(whiskers.get_segments()) == pytest.approx(segments)
    assert {"0.10", "0.50", "guessing"} <= set(labels(ax))
    assert ax.get_xlabel() == "held-out accuracy (share of problems); n=200"
    assert "n=100 to 200" in plots.bars(["a", "b"], [Estimate(0, 0, 0, 100), Estimate(0, 0, 0, 200)]).get_xlabel()


# --- labels and colours ---


def boxes(ax):
    ax.figure.canvas.draw()
    renderer = ax.figure.canvas.get_renderer()
    return [matplotlib.text.Text.get_window_extent(text, renderer) for text in ax.texts]


def test_labels_of_lines_that_end_together_do_not_overlap_and_stay_in_the_figure():
    ax = plots.learning_curve([record(f"arm {i}", [0.0, 0.5 + i / 1000]) for i in range(8)])
    extents = boxes(ax)
    assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[:i])
    width, height = ax.figure.canvas.get_width_height()
    assert all(0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height for box in extents)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=10).map(sorted), st.floats(0.01, 0.2))
def test_moved_apart_keeps_the_order_the_gap_and_the_mean(heights, gap):
    places = drawing.moved_apart(heights, gap)
    assert all(b - a >= gap - 1e-9 for a, b in zip(places, places[1:]))
    assert sum(places) == pytest.approx(sum(heights)) and len(places) == len(heights)
    if all(b - a >= gap for a, b in zip(heights, heights[1:])):
        assert places == pytest.approx(heights)


def test_moved_apart_by_hand():
    assert drawing.moved_apart([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert drawing.moved_apart([0.1, 0.50, 0.52, 0.9], 0.1) == pytest.approx([0.1, 0.46, 0.56, 0.9])


def test_long_titles_are_wrapped():
    ax = plots.learning_curve([record("rft", [0, 1])], title="A finding " * 12)
    ax.figure.canvas.draw()
    title = ax._left_title.get_window_extent()
    assert title.x1 <= ax.figure.canvas.get_width_height()[0]


def test_colours_are_distinct_and_visible_on_white():
    assert len(set(plots.PALETTE)) == 7 and len(set(drawing.ARMS.values())) == len(drawing.ARMS) == 10
    for shade in {*plots.PALETTE, *drawing.ARMS.values()}:
        assert colorsys.rgb_to_hls(*to_rgb(shade))[1] < 0.68


# --- Live ---


def test_live_draws_one_static_figure_under_test():
    live = plots.Live("reward", title="It rises")
    for step in range(5):
        live({"step": step, "reward": step / 4})
        assert plt.get_fignums() == []
    ax = live.finish()
    assert len(plt.get_fignums()) == 1
    assert ax.lines[0].get_ydata() == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert ax.get_title(loc="left") == "It rises"


def test_live_block_draws_at_its_end_also_when_interrupted():
    with pytest.raises(KeyboardInterrupt):
        with plots.Live() as live:
            live({"step": 0, "reward": 0.5})
            raise KeyboardInterrupt
    assert len(plt.get_fignums()) == 1
    with plots.Live():
        pass  # no step, no figure
    assert len(plt.get_fignums()) == 1


def test_live_redraws_one_display_while_a_person_watches(monkeypatch):
    shown, updates = [], []

    def display(figure, display_id):
        shown.append(figure)
        return SimpleNamespace(update=updates.append)

    monkeypatch.setattr(rftlab, "interactive", lambda: True)
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    clock = iter([0.0, 0.0, 0.4, 1.5, 1.5])
    monkeypatch.setattr(plots.time, "monotonic", lambda: next(clock))
    with plots.Live("reward", every=1.0) as live:
        for step in range(3):
            live({"step": step, "reward": 0.1})
    assert len(shown) == 1 and len(updates) == 2  # step 0, not step 1, step 2, and the finished figure
    assert len(updates[-1].axes[0].lines[0].get_xdata()) == 3
    assert plt.get_fignums() == []  # all were closed, or the notebook would show them again


def test_matplotlib_is_not_imported_before_something_is_drawn():
    code = "import sys, rftlab.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
