"""How the pictures in `rftlab.plots` look: colours, style, the words on the axes, and where labels go."""

import textwrap

# Okabe and Ito (2008): colours that colour-blind readers can tell apart; without their yellow, too faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# An arm has the same colour in every picture. For nine arms: grey for no training, and the yellow darkened.
ARMS = {
    "base": "#7F7F7F",
    "few-shot": "#56B4E9",
    "sft-answers": "#E69F00",
    "sft-solutions": "#D55E00",
    "rft": "#0072B2",
    "rft-random": "#000000",
    "rft-format": "#CC79A7",
    "rejection": "#B5A300",
    "sft-rft": "#009E73",
    "rft-format-heavy": "#8C4A6E",
}
# Line and marker say the same as the colour, for print and for colour-blind readers: solid for what learns from rewards or
# from solutions, dashed for other targets and mixtures, dotted for controls and for no training.
LINES = {
    "base": (":", None),
    "few-shot": (":", "P"),
    "sft-answers": ("--", "s"),
    "sft-solutions": ("-", "D"),
    "rft": ("-", "o"),
    "rft-random": (":", "x"),
    "rft-format": (":", "v"),
    "rft-format-heavy": (":", "^"),
    "rejection": ("--", "*"),
    "sft-rft": ("-.", "h"),
}
METRICS = {
    "accuracy": "held-out accuracy (share of problems)",
    "reward": "reward (mean per completion)",
    "reward_std": "reward (standard deviation in a group)",
    "zero_variance": "groups without signal (share)",
    "entropy": "entropy (nats per token)",
    "kl": "KL from the reference (nats per token)",
    "clip_fraction": "clipped tokens (share)",
    "length": "completion length (tokens)",
    "grad_norm": "gradient norm",
    "tokens_per_second": "rollout speed (tokens per second)",
    "seconds_rollout": "rollout (seconds per step)",
    "seconds_reward": "reward (seconds per step)",
    "seconds_update": "update (seconds per step)",
    "loss": "loss",
}
STYLE = {
    "figure.figsize": (6.4, 3.6),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "axes.xmargin": 0.03,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "font.size": 10,
    "legend.frameon": False,
}
LABEL_SIZE = 9  # points
INK = "#222222"


def style() -> None:
    """Set matplotlib's defaults to the style of this course; the plots do it when they make a figure of their own."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(STYLE)


def axes(ax=None):
    """Return `ax`, or the Axes of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    style()
    return plt.subplots()[1]


def colour(name: str, i: int) -> str:
    """Return the colour of an arm, or for any other name the i-th of the palette."""
    return ARMS.get(name, PALETTE[i % len(PALETTE)])


def line(name: str) -> dict:
    """Return line style and marker of an arm, as arguments of matplotlib's plot; a plain line for any other name."""
    dash, marker = LINES.get(name, ("-", None))
    return {"linestyle": dash, "marker": marker}


def finish(ax, title: str | None, xlabel: str, ylabel: str) -> None:
    """Set title and axis labels, and let an upright axis of non-negative values start at 0."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        inches = ax.get_position().width * ax.figure.get_figwidth()
        ax.set_title(textwrap.fill(title, max(20, int(12.5 * inches))))
    if ylabel and ax.dataLim.ymin >= 0:
        ax.set_ylim(bottom=0)


def label_ends(ax, ends: list[tuple[float, float, str, str]]) -> None:
    """Name each line, (x, y, text, colour) of its end, in the right margin, moved apart where labels would touch.

    To be called when the limits of the y axis are final.
    """
    low, high = ax.get_ylim()
    inches = ax.get_position().height * ax.figure.get_figheight()
    ends = sorted(ends, key=lambda end: end[1])
    places = moved_apart([(y - low) / (high - low) for _, y, _, _ in ends], 1.4 * LABEL_SIZE / 72 / inches)
    for (x, y, text, shade), place in zip(ends, places, strict=True):
        ax.annotate(text, (x, y), xytext=(1.02, place), textcoords="axes fraction", va="center", fontsize=LABEL_SIZE,
                    color=shade, arrowprops={"arrowstyle": "-", "color": shade, "linewidth": 0.6, "alpha": 0.6})


def moved_apart(heights: list[float], gap: float) -> list[float]:
    """Return sorted heights with at least `gap` between neighbours; labels that touch spread around their mean."""
    clusters: list[tuple[float, int]] = []  # (height of the lowest label, number of labels)
    for height in heights:
        start, size = height, 1
        while clusters and clusters[-1][0] + clusters[-1][1] * gap > start:
            below, count = clusters.pop()
            start = (below * count + (start - count * gap) * size) / (count + size)
            size += count
        clusters.append((start, size))
    return [start + i * gap for start, size in clusters for i in range(size)]
