"""Pictures of a kernel writer that learns, drawn from its records: the ladder as a stacked area, and accuracy as it climbs."""
from rftlab import drawing
from rftlab.kernel_report import STAGES, curve, level, shares

# Okabe and Ito (2008), from "nothing usable" to "right": grey, then dark to light; the last is told apart by its hatch too.
COLOURS = {"format": "#7F7F7F", "rules": "#D55E00", "compile": "#CC79A7", "run": "#E69F00", "wrong": "#56B4E9", "correct": "#009E73"}
MEANS = {"format": "no Python", "rules": "breaks a rule", "compile": "does not compile", "run": "crashes", "wrong": "runs, is wrong",
         "correct": "is right"}


def draw_ladder(runs, ax=None, smooth=3, title=None):
    """The share of completions that ended at each stage, against the GRPO step, as a stacked area; right ones at the bottom."""
    ax = drawing.axes(ax)
    steps, by_stage = shares(runs, smooth)
    order = STAGES[::-1]
    areas = ax.stackplot(steps, [by_stage[s] for s in order], labels=[MEANS[s] for s in order], colors=[COLOURS[s] for s in order],
                         linewidth=0.6, edgecolor="white")
    areas[0].set_hatch("//")
    ax.set(ylim=(0, 1), xlim=(steps[0], steps[-1]))
    drawing.finish(ax, title, f"GRPO step; average over {smooth} steps", "share of completions")
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=drawing.LABEL_SIZE)
    return ax


def draw_climb(recipes, ax=None, title=None):
    """Greedy accuracy on validation functions against the GRPO step, one line a recipe, thin lines for its seeds; squares: the
    test functions, before and after, with their intervals."""
    ax, tops = drawing.axes(ax), []
    for i, (name, runs) in enumerate(recipes.items()):
        steps, values = curve(runs, "accuracy")
        before, after = level(runs, "accuracy_before"), level(runs, "accuracy")
        last = curve(runs, "reward")[0][-1]
        shade, mark = drawing.PALETTE[i % len(drawing.PALETTE)], "osD^v"[i % 5]
        for run in runs if len(runs) > 1 else ():
            ax.plot(*curve([run], "accuracy"), color=shade, linewidth=0.7, alpha=0.5)
        ax.plot(steps, values, color=shade, marker=mark, markersize=4, label=name)
        for x, at in ((0.4 * i, before), (last + 0.4 * i, after)):
            ax.errorbar([x], [at.mean], yerr=[[at.mean - at.low], [at.high - at.mean]], color=shade, marker="s", capsize=3)
        tops.append((last, after.mean, f"{before.mean:.2f} -> {after.mean:.2f}", shade))
    ax.set_ylim(0, 1)
    drawing.finish(ax, title, "GRPO step", "share of functions right, greedy")
    drawing.label_ends(ax, tops)
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.18), fontsize=drawing.LABEL_SIZE)
    return ax


def draw_hacks(recipes, ax=None, smooth=3, title=None):
    """Against the GRPO step, by recipe: the share of completions that only a grader without rules pays (solid), and of right
    ones (dashed); the mean over seeds, and each seed thin."""
    ax, tops = drawing.axes(ax), []
    for i, (name, runs) in enumerate(recipes.items()):
        shade = drawing.PALETTE[i % len(drawing.PALETTE)]
        for what, dash, metric in (("hacks", "-", "share_hack"), ("right", "--", "share_correct")):
            for run in runs if len(runs) > 1 else ():
                ax.plot(*curve([run], metric, smooth), color=shade, linestyle=dash, linewidth=0.7, alpha=0.4)
            steps, values = curve(runs, metric, smooth)
            ax.plot(steps, values, color=shade, linestyle=dash, label=f"{name}: {what}")
            tops.append((steps[-1], values[-1], f"{what}, paid by {runs[0].config['reward']}", shade))
    ax.set_ylim(0, 1)
    drawing.finish(ax, title, f"GRPO step; average over {smooth} steps", "share of completions")
    drawing.label_ends(ax, tops)
    return ax


def draw_changes(differences, ax=None, title=None):
    """What each change made of the accuracy, the largest loss below, with 95 % intervals over seeds; one seed has none."""
    ax = drawing.axes(ax)
    for i, (name, test) in enumerate(sorted(differences.items(), key=lambda item: item[1].mean)):
        shade = drawing.INK if test.low <= 0 <= test.high else drawing.PALETTE[1] if test.mean < 0 else drawing.PALETTE[0]
        whiskers = [[test.mean - test.low], [test.high - test.mean]] if test.n > 1 else None
        ax.errorbar([test.mean], [i], xerr=whiskers, color=shade, marker="s", capsize=3, linestyle="")
    ax.axvline(0, color=drawing.INK, linewidth=0.8)
    ax.set_yticks(range(len(differences)), sorted(differences, key=lambda name: differences[name].mean))
    ax.set(xlim=(-1, 1), ylim=(-0.6, len(differences) - 0.4))  # two seeds can have an interval that no accuracy could
    drawing.finish(ax, title, "accuracy minus that of the unchanged recipe", "")
    return ax
