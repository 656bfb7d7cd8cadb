"""The speculator that costs nothing: look up where the last tokens occurred before, and propose what followed them there.

Saxena (2023), prompt lookup decoding. Differences: the latest occurrence is taken, not the first, and the text is thought to
go on in a circle where the match is close to its end, so that a repetition is drafted in full.
"""
from dataclasses import dataclass

import torch


@dataclass
class NGram:
    """Drafts k tokens; sizes: how many last tokens must match, tried in this order."""

    k: int = 8
    sizes: tuple = (3, 2)
    kind = "ngram"

    def begin(self, policy, text, capacity) -> None:
        """Nothing to prepare: the text itself is all that it reads."""

    def select(self, rows) -> None:
        """Nothing is kept for a row."""

    def draft(self, text, count, sampling):
        """tokens (B, count), and how many of them are real (B,): count where a match was found, else 0. No probabilities."""
        start = torch.full_like(text.lengths, -1)
        known = text.ids[:, : int(text.lengths.max())]
        rows = torch.arange(len(known), device=known.device)
        for n in self.sizes:
            if known.shape[1] <= n:
                continue
            windows = known.unfold(1, n, 1)  # (B, W, n)
            last = windows[rows, (text.lengths - n).clamp(min=0)]
            ends = torch.arange(n, n + windows.shape[1], device=known.device)
            match = (windows == last[:, None]).all(-1) & (ends < text.lengths[:, None]) & (text.lengths > n)[:, None]
            latest = torch.where(match, ends, -1).max(1).values
            start = torch.where(start < 0, latest, start)
        found = start >= 0
        ahead = torch.arange(count, device=known.device) % (text.lengths - start.clamp(min=0))[:, None]
        return known[rows[:, None], start.clamp(min=0)[:, None] + ahead], torch.where(found, count, 0), None
