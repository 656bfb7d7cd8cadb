"""Pictures of the data-size experiment: accuracy against the number of examples, and the deck's bars beside what was measured."""
import numpy as np

from rftlab.drawing import INK, METRICS, axes, colour, finish, label_ends, line

DECK_GREY = "#B8B8B8"


def by_size(report, model, task, name="accuracy", arms=None, ax=None, *, title=None, labels=True):
    """Draw a metric against the number of examples, one line an arm: mean over seeds, its 95 % t interval as a band.

    The untrained policy is a dotted line. A single seed has no band. Raises ValueError when nothing of the sort was run.
    """
    sizes = report.sizes(model, task)
    if not sizes:
        raise ValueError(f"no runs of {model} on {task}; there are {report.groups()}")
    ax, ends = axes(ax), []
    ax.set_xscale("log")
    for i, arm in enumerate(arms or report.arms(model, task)):
        shade = colour(arm, i)
        if arm == "base":
            level = report.estimate(model, task, arm, None, name)
            if level is None:
                continue
            ax.axhline(level.mean, color=shade, linestyle=":", linewidth=1.4)
            ends.append((sizes[-1], level.mean, arm, shade))
            continue
        xs, found = report.curve(model, task, arm, name)
        if not xs:
            continue
        means = [e.mean for e in found]
        if min(e.n for e in found) > 1:
            ax.fill_between(xs, [e.low for e in found], [e.high for e in found], color=shade, alpha=0.13, linewidth=0)
        ax.plot(xs, means, color=shade, markersize=5.5, label=arm, **line(arm))
        ends.append((xs[-1], means[-1], arm, shade))
    ax.set_xticks(sizes, [str(s) for s in sizes])
    ax.minorticks_off()
    if name != "general_loss":
        ax.set_ylim(-0.03, 1.03)
    low, high = report.seeds(model=model, task=task)
    seeds = f"{low}" if low == high else f"{low} to {high}"
    finish(ax, title, f"examples; mean of {seeds} seed{'s' if high > 1 else ''}", METRICS.get(name, name))
    if labels:
        label_ends(ax, ends)
    return ax


def beside_the_deck(report, model, bars, arm="rft", ax=None, *, title=None):
    """Draw what the deck says RFT gained with so many examples, {examples: gain}, beside the measured gain on each task."""
    groups = [task for m, task in report.groups() if m == model]
    ax, width = axes(ax), 0.8 / (len(groups) + 1)
    for i, (size, said) in enumerate(bars.items()):
        ax.bar(i - 0.4 + width / 2, said, width * 0.9, color=DECK_GREY, hatch="//", edgecolor="white", label="the deck" if i == 0 else None)
        ax.annotate(f"{said:+.2f}", (i - 0.4 + width / 2, said), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8)
        for j, task in enumerate(groups, 1):
            values = report.differences(model, task, size, arm, "base")
            if not values:
                continue
            at, mean = i - 0.4 + width * (j + 0.5), float(np.mean(values))
            ax.bar(at, mean, width * 0.9, color=colour("", j - 1), label=task if i == 0 else None)
            ax.plot([at] * len(values), values, ".", color=INK, markersize=3.5)
            ax.annotate(f"{mean:+.2f}", (at, max(values + [0])), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8)
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set_xticks(range(len(bars)), [f"{size} examples" for size in bars])
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper left", ncols=len(groups) + 1, fontsize=8)
    finish(ax, title, f"{model}; each dot a seed", "gain in accuracy over the base")
    low, high = ax.get_ylim()
    ax.set_ylim(low, max(high * 1.15, 1.0))
    return ax
