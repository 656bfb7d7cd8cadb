"""Speculate in the tail of a batch only: many rows keep the arithmetic busy, and the last few leave it idle."""


class Late:
    """Another speculator's drafts once at most `rows` rows are being written, none before. The output is the same either way."""

    def __init__(self, speculator, rows: int):
        if rows < 1:
            raise ValueError(f"rows is {rows}; expected the largest number of rows at which to speculate, at least 1")
        self.speculator, self.rows = speculator, rows
        self.k, self.most = speculator.k, getattr(speculator, "most", None)

    def begin(self, policy, text, capacity) -> None:
        self.speculator.begin(policy, text, capacity)

    def select(self, rows) -> None:
        self.speculator.select(rows)

    def draft(self, text, count, sampling):
        if len(text.ids) > self.rows:
            return text.ids[:, :0], text.lengths * 0, None
        return self.speculator.draft(text, count, sampling)
