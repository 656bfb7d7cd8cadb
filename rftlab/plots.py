"""Pictures drawn from run records: learning curves, before and after, bars with intervals, and a live curve.

Records are `rftlab.records.RunRecord`, or dicts with the same fields. Every function draws into `ax`, or into a new
figure in the style of `rftlab.drawing`, and returns the Axes; nothing is saved. Pass a title that states the finding.
"""

import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np

import rftlab
from rftlab.drawing import INK, METRICS, PALETTE, axes, colour, finish, label_ends, style

__all__ = ["PALETTE", "Live", "bars", "before_after", "learning_curve", "style"]


def learning_curve(records: Sequence, metric: str = "reward", ax=None, *, smooth: int = 1, title: str | None = None):
    """Draw a metric against the training step, one line an arm: the mean over its seeds.

    The band goes from the lowest to the highest seed. It is the range, not an interval: of three to five seeds it hides
    nothing. Each seed is first averaged over `smooth` neighbouring steps. A line covers the steps that all of its
    seeds have. Raises ValueError for no records, a metric that a record does not have, or seeds without a common step.
    """
    arms = _by_arm(records)
    if smooth < 1:
        raise ValueError(f"got smooth={smooth}: expected the number of steps to average over, 1 for none")
    tables = {arm: _table(arm, runs, metric, smooth) for arm, runs in arms.items()}
    ax, ends = axes(ax), []
    for i, (arm, (steps, values)) in enumerate(tables.items()):
        mean, shade = values.mean(0), colour(arm, i)
        if len(values) > 1:
            ax.fill_between(steps, values.min(0), values.max(0), color=shade, alpha=0.18, linewidth=0)
        ax.plot(steps, mean, color=shade, marker="o" if len(steps) < 12 else None, markersize=4, label=arm)
        ends.append((steps[-1], mean[-1], arm, shade))
    notes = [_seeds(arms, "mean and range of"), f"average over {smooth} steps" if smooth > 1 else ""]
    if ax.get_xscale() == "linear":
        ax.xaxis.get_major_locator().set_params(integer=True)
    finish(ax, title, _with_notes("training step", notes), METRICS.get(metric, metric))
    label_ends(ax, ends)
    return ax


def before_after(records: Sequence, ax=None, *, metric: str = "accuracy", title: str | None = None):
    """Draw one line an arm, from the metric before training to the metric after it, out of each record's `final`.

    The line is the mean over seeds, with each seed as a thin line beside it; a single seed has the interval of its
    evaluation. Raises ValueError for no records, or a record without both estimates.
    """
    arms = _by_arm(records)
    finals = {arm: [[_final(run, name) for name in (f"{metric}_before", metric)] for run in runs]
              for arm, runs in arms.items()}
    ax, ends = axes(ax), []
    for i, (arm, pairs) in enumerate(finals.items()):
        values, shade = np.array([[one["mean"] for one in pair] for pair in pairs]), colour(arm, i)
        before, after = values.mean(0)
        if len(pairs) > 1:
            ax.plot([0, 1], values.T, color=shade, linewidth=0.8, alpha=0.45)
        else:
            ax.errorbar([0, 1], values[0], yerr=_whiskers(pairs[0]), color=shade, fmt="none", capsize=3, linewidth=1)
        ax.plot([0, 1], [before, after], color=shade, marker="o", label=arm)
        ends.append((1, after, f"{arm}  {before:.2f} → {after:.2f}", shade))
    ax.set_xlim(-0.2, 1.1)
    ax.set_xticks([0, 1], ["before training", "after training"])
    ax.grid(axis="x", visible=False)
    notes = [_size([one for pairs in finals.values() for pair in pairs for one in pair]), _seeds(arms, "mean of")]
    finish(ax, title, _with_notes("", notes), METRICS.get(metric, metric))
    label_ends(ax, ends)
    return ax


def bars(labels: Sequence[str], estimates: Sequence, ax=None, *, title: str | None = None,
         xlabel: str = METRICS["accuracy"], reference: tuple[float, str] | None = None):
    """Draw one horizontal bar an estimate, the first on top, with its interval and its mean in figures.

    estimates: `Estimate` objects or their dicts. reference: (value, what it is), drawn as a dashed line. Raises
    ValueError for no bars or unequal lengths.
    """
    if not len(labels) or len(labels) != len(estimates):
        raise ValueError(f"got {len(labels)} labels and {len(estimates)} estimates: expected one estimate a label")
    entries = [_entry(one) for one in estimates]
    if ax is None:
        ax = axes()
        ax.figure.set_figheight(1.3 + 0.42 * len(labels))
    rows, means = np.arange(len(labels)), [one["mean"] for one in entries]
    ax.barh(rows, means, height=0.62, color=[colour(label, i) for i, label in enumerate(labels)], alpha=0.85)
    ax.errorbar(means, rows, xerr=_whiskers(entries), fmt="none", color=INK, capsize=3, linewidth=1.2)
    for row, one in zip(rows, entries, strict=True):
        ax.annotate(f"{one['mean']:.2f}", (max(one["high"], one["mean"]), row), xytext=(5, 0),
                    textcoords="offset points", va="center")
    ax.set_yticks(rows, labels)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    if reference is not None:
        ax.axvline(reference[0], color=INK, linestyle="--", linewidth=1)
        ax.annotate(reference[1], (reference[0], 0), xycoords=("data", "axes fraction"), xytext=(4, 4),
                    textcoords="offset points", fontsize=9)
    finish(ax, title, _with_notes(xlabel, [_size(entries)]), "")
    return ax


class Live:
    """A learning curve that grows while a policy trains.

        with plots.Live("reward", title="The reward rises") as live:
            record = rftlab.grpo.train(policy, task, problems, on_step=live)

    While a person watches in a notebook, the figure is redrawn at most every `every` seconds. Otherwise, so under test
    too, only the finished figure is drawn: at the end of the `with` block, or by `finish()`.
    """

    def __init__(self, metric: str = "reward", *, smooth: int = 1, title: str | None = None, every: float = 1.0):
        self.metric, self.smooth, self.title, self.every = metric, smooth, title, every
        self.metrics: list[dict] = []
        self._display, self._drawn = None, -float("inf")

    def __call__(self, metrics: Mapping) -> None:
        """Take the metrics of one step."""
        self.metrics.append(dict(metrics))
        watched = rftlab.interactive() and "ipykernel" in sys.modules
        if watched and self._known() and time.monotonic() - self._drawn >= self.every:
            self._redraw(self._draw())
            self._drawn = time.monotonic()

    def finish(self, title: str | None = None):
        """Draw the finished figure and return its Axes; raises ValueError when no step had the metric."""
        self.title = title or self.title
        ax = self._draw()
        if self._display is not None:
            self._redraw(ax)
        return ax

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        if self._known():  # a run that was interrupted still shows how far it came
            self.finish()

    def _known(self) -> bool:
        return any(one.get(self.metric) is not None for one in self.metrics)

    def _draw(self):
        record = {"arm": "this run", "metrics": self.metrics}
        return learning_curve([record], self.metric, smooth=self.smooth, title=self.title)

    def _redraw(self, ax) -> None:
        import matplotlib.pyplot as plt
        from IPython.display import display

        if self._display is None:
            self._display = display(ax.figure, display_id=True)
        else:
            self._display.update(ax.figure)
        plt.close(ax.figure)  # or the notebook would show it once more at the end of the cell


def _field(record, name: str):
    return record[name] if isinstance(record, Mapping) else getattr(record, name)


def _by_arm(records: Sequence) -> dict[str, list]:
    arms: dict[str, list] = {}
    for record in records:
        arms.setdefault(_field(record, "arm"), []).append(record)
    if not arms:
        raise ValueError("got no records to draw: pass a list of run records, such as those in data/results")
    return arms


def _table(arm: str, runs: list, metric: str, smooth: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps that all runs of an arm have, (S,), and the smoothed metric there, (seeds, S)."""
    curves = []
    for run in runs:
        curve = {entry["step"]: entry[metric] for entry in _field(run, "metrics") if entry.get(metric) is not None}
        if not curve:
            known = sorted({name for entry in _field(run, "metrics") for name in entry})
            raise ValueError(f"a record of arm {arm!r} has no metric {metric!r}; it has {', '.join(known) or 'none'}")
        curves.append(dict(zip(curve, _smoothed(list(curve.values()), smooth), strict=True)))
    steps = sorted(set.intersection(*map(set, curves)))
    if not steps:
        raise ValueError(f"the {len(runs)} records of arm {arm!r} have no step in common: draw them one by one")
    return np.array(steps), np.array([[curve[step] for step in steps] for curve in curves], dtype=float)


def _smoothed(values: list[float], window: int) -> list[float]:
    """Return the centred moving average; at both ends the window holds fewer values."""
    before, after = (window - 1) // 2, window // 2 + 1
    return [float(np.mean(values[max(0, i - before) : i + after])) for i in range(len(values))]


def _final(run, name: str) -> Mapping:
    final = _field(run, "final")
    if name not in final:
        raise ValueError(
            f"a record of arm {_field(run, 'arm')!r} has no final[{name!r}], only {sorted(final)}: leave the arm out, "
            "or evaluate before and after training"
        )
    return _entry(final[name])


def _entry(estimate) -> Mapping:
    return estimate if isinstance(estimate, Mapping) else estimate.to_dict()


def _whiskers(entries: Sequence[Mapping]) -> np.ndarray:
    """Return how far the intervals reach below and above the means, (2, len(entries))."""
    return np.array([[e["mean"] - e["low"] for e in entries], [e["high"] - e["mean"] for e in entries]]).clip(min=0)


def _size(entries: Sequence[Mapping]) -> str:
    sizes = {one["n"] for one in entries}
    return f"n={sizes.pop()}" if len(sizes) == 1 else f"n={min(sizes)} to {max(sizes)}"


def _seeds(arms: Mapping[str, Sequence], what: str) -> str:
    counts = {len(runs) for runs in arms.values()}
    if counts == {1}:
        return ""
    return f"{what} {counts.pop() if len(counts) == 1 else f'{min(counts)} to {max(counts)}'} seeds"


def _with_notes(label: str, notes: Sequence[str]) -> str:
    """Return an axis label followed by the notes that are not empty."""
    return "; ".join(filter(None, [label, *notes]))
