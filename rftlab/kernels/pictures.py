"""Pictures of which program touches which memory, drawn from a trace of the interpreter (rftlab.kernels.trace)."""
import numpy as np

from rftlab.drawing import INK, PALETTE, style
from rftlab.kernels.trace import Trace

NOBODY, SEVERAL = "#FFFFFF", "#B0B0B0"


def lanes(seen: Trace, ax=None, *, title: str | None = None):
    """Draw one row a program and one column an element, for kernels on one-dimensional tensors of equal length.

    Filled: a lane that is switched on. Hollow: masked off. Crossed out in black: switched on, and outside the tensor. Lanes of
    all loads and stores of a program fall together. Returns the Axes; raises ValueError when a tensor has more dimensions.
    """
    import matplotlib.pyplot as plt

    if any(len(shape) != 1 for shape in seen.shapes.values()):
        raise ValueError(f"lanes() draws one-dimensional tensors, got shapes {list(seen.shapes.values())}: use matrices()")
    size, programs = max(map(seen.size, seen.shapes)), 1 + max(access.program for access in seen.accesses)
    ends = np.concatenate([offsets for a in seen.accesses for offsets in (a.cells, a.off)])
    first, reach = min(0, int(ends.min())), max(size, 1 + int(ends.max()))
    if ax is None:
        style()
        ax = plt.subplots(figsize=(max(6.4, 1.6 + 0.34 * (reach - first)), 0.95 + 0.36 * programs), dpi=70)[1]
    for access in seen.accesses:
        colour = PALETTE[access.program % len(PALETTE)]
        for cell in access.off:
            ax.add_patch(_box(cell, access.program, edgecolor=colour, facecolor="none", linestyle=":"))
        for cell in access.cells:
            ax.add_patch(_box(cell, access.program, edgecolor=colour, facecolor=colour))
            if not 0 <= cell < size:
                ax.plot(cell + 0.5, access.program + 0.5, "x", color=INK, markersize=9, markeredgewidth=2)
    ax.axvline(size, color=INK, linewidth=1.5)
    ax.set(yticks=np.arange(programs) + 0.5, yticklabels=[f"program {seen.label(p)}" for p in range(programs)],
           xlabel=f"element ({size} exist; the line is their end)", ylim=(programs, 0))
    ax.set_xticks(np.arange(0, size, 1 if size <= 20 else 8) + 0.5, np.arange(0, size, 1 if size <= 20 else 8))
    ax.set_xlim(first - 0.1, reach + 0.1)
    return _bare(ax, title)


def matrices(seen: Trace, *, program: int | None = None, title: str | None = None):
    """Draw each watched tensor as a matrix of cells, one picture for each way in which it was touched.

    Without `program`: a cell shows the program that touched it (grey: several did, white: nobody). With it: only what this
    program touched, and the number in a cell says at which of its accesses to that tensor (0 first). Returns the Figure.
    """
    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys((a.tensor, a.kind) for a in seen.accesses))
    panels.sort(key=lambda panel: (panel[1] != "load", list(seen.shapes).index(panel[0])))
    grids = {panel: _order(seen, panel, program) if program is not None else _two_d(seen.toucher(*panel)) for panel in panels}
    style()
    widths = [grid.shape[1] for grid in grids.values()]
    tallest = max(grid.shape[0] for grid in grids.values())
    unit = min(0.34, 9.5 / (sum(widths) + 2 * len(widths)))
    figure, axes = plt.subplots(1, len(panels), squeeze=False, dpi=70, width_ratios=widths,
                                figsize=(unit * (sum(widths) + 3 * len(widths)) + 0.6, unit * tallest + 1.3))
    for ax, ((tensor, kind), grid) in zip(axes[0], grids.items(), strict=True):
        _cells(ax, grid, PALETTE[program % len(PALETTE)] if program is not None else None, text=unit > 0.2)
        _bare(ax, f"{kind} {tensor}")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _two_d(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 2 else values.reshape(1, -1)


def _order(seen: Trace, panel: tuple[str, str], program: int) -> np.ndarray:
    """For each cell the number of the program's access that touched it first; -1 for none."""
    tensor, kind = panel
    when, count = np.full(seen.size(tensor), -1), 0
    for access in seen.accesses:
        if (access.tensor, access.kind, access.program) == (tensor, kind, program):
            inside = access.cells[(access.cells >= 0) & (access.cells < when.size)]
            when[inside] = np.where(when[inside] < 0, count, when[inside])
            count += 1
    return _two_d(when.reshape(seen.shapes[tensor]))


def _cells(ax, grid: np.ndarray, colour: str | None, *, text: bool) -> None:
    """Draw a matrix: -1 white, -2 grey, others in `colour`, paler the later, or in the colour of their number."""
    latest = max(1, int(grid.max()))
    for (row, column), number in np.ndenumerate(grid):
        if number < 0:
            face, alpha = (NOBODY if number == -1 else SEVERAL), 1.0
        else:
            face, alpha = colour or PALETTE[number % len(PALETTE)], 1.0 - 0.55 * number / latest if colour else 0.85
        ax.add_patch(_box(column, row, facecolor=face, alpha=alpha, edgecolor="#999999", linewidth=0.6, inset=0.0))
        if number >= 0 and text:
            ax.text(column + 0.5, row + 0.5, str(number), ha="center", va="center", fontsize=8, color=INK)
    ax.set(xlim=(-0.04, grid.shape[1] + 0.04), ylim=(grid.shape[0] + 0.04, -0.04), aspect="equal", xticks=[], yticks=[])


def _box(x: float, y: float, *, inset: float = 0.08, **look):
    from matplotlib.patches import Rectangle

    return Rectangle((x + inset, y + inset), 1 - 2 * inset, 1 - 2 * inset, **look)


def _bare(ax, title: str | None):
    """Switch grid and frame off, and set the title."""
    ax.grid(visible=False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0)
    if title:
        ax.set_title(title)
    return ax
