"""See an answer grow: which tokens came with each pass, and which of them were drafted."""
import html

COLOURS = {False: "#FFFFFF", True: "#BFE3D0"}  # written by the target, accepted from a draft


def by_pass(drafted: list[bool]) -> list[list[int]]:
    """The positions that came with each pass, the first token (the prompt's) as a pass of its own.

    A pass ends with a token of the target's own, unless an accepted draft ended the answer or filled it.
    """
    passes, current = [], []
    for position, was_drafted in enumerate(drafted):
        current.append(position)
        if not was_drafted:
            passes.append(current)
            current = []
    return passes + ([current] if current else [])


def coloured(pieces: list[str], drafted: list[bool], upto: int | None = None) -> str:
    """HTML of an answer after `upto` passes, the whole answer by default: accepted drafts green, with a bar at the end of each pass."""
    shown = []
    for positions in by_pass(drafted)[:upto]:
        for position in positions:
            text = html.escape(pieces[position]).replace("\n", "<br>").replace(" ", "&nbsp;")
            shown.append(f'<span style="background:{COLOURS[drafted[position]]};color:#222222">{text}</span>')
        shown.append('<span style="color:#999999">|</span>')
    return f'<div style="font-family:monospace;line-height:1.7">{"".join(shown)}</div>'


def side_by_side(pieces: list[str], drafted: list[bool], upto: int | None = None) -> str:
    """The same answer, plain on the left and speculative on the right, after the same number of passes."""
    plain = coloured(pieces, [False] * len(pieces), upto)
    fast = coloured(pieces, drafted, upto)
    cell = '<td style="vertical-align:top;text-align:left;width:50%;padding:6px">'
    return (f'<table style="width:100%"><tr>{cell}plain</td>{cell}speculative</td></tr>'
            f"<tr>{cell}{plain}</td>{cell}{fast}</td></tr></table>")


def stream(pieces: list[str], drafted: list[bool], seconds_per_pass: float = 0.12) -> None:
    """Show side_by_side in a notebook: pass by pass while a person watches, else only where the faster one ends."""
    import time

    from IPython.display import HTML, display

    from rftlab import interactive

    last = len(by_pass(drafted))
    if not interactive():
        display(HTML(side_by_side(pieces, drafted, last)))
        return
    shown = display(HTML(""), display_id=True)
    for upto in range(1, len(pieces) + 1):
        shown.update(HTML(side_by_side(pieces, drafted, upto)))
        time.sleep(seconds_per_pass)
    shown.update(HTML(side_by_side(pieces, drafted, last)))
