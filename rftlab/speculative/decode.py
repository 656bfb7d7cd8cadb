"""The decoding loop: draft, verify in one forward pass, keep, go on. Rows of a batch keep different numbers of tokens.

Nothing is copied when drafts are refused: the cache is as long as it may get, and a row that goes back writes over its columns
(`rftlab.static_cache`). Random numbers belong to (row, position), so that a row's text does not depend on its neighbours.
"""
import time
from dataclasses import dataclass

import torch

from rftlab.decoder import decoder_for
from rftlab.speculative import rule


@dataclass
class Text:
    """What a speculator may read. ids (B, C): known tokens from column 0 on; lengths (B,): how many are known; hidden (B, H):
    the target's last hidden state that the last known token was chosen from. None before the first pass."""

    ids: torch.Tensor
    lengths: torch.Tensor
    hidden: torch.Tensor | None = None


@dataclass
class Sampling:
    """temperature 0 is greedy. uniform (B, T, 3): the random numbers of each new position; first (B,): where they begin."""

    temperature: float
    top_p: float
    uniform: torch.Tensor
    first: torch.Tensor

    def at(self, positions):
        """The numbers (B, n, 3) of these positions (B, n)."""
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        return self.uniform[rows, (positions - self.first[:, None]).clamp(max=self.uniform.shape[1] - 1)]

    def select(self, rows) -> None:
        self.uniform, self.first = self.uniform[rows], self.first[rows]


@dataclass
class Decoded:
    """tokens: the new ids of each prompt, an end-of-turn token included; drafted: for each whether a speculator proposed it.

    passes: forward passes of the target after the prompt's. tested, accepted: drafts that the rule looked at and kept.
    row_passes: for each row the passes in which it was still being written.
    """

    texts: list
    tokens: list
    drafted: list
    passes: int
    row_passes: list
    tested: int
    accepted: int
    seconds: float

    @property
    def acceptance_rate(self) -> float:
        """Of the drafts that the rule looked at (none after a refusal) the share that it kept; NaN where there was none."""
        return self.accepted / self.tested if self.tested else float("nan")

    @property
    def tokens_per_pass(self) -> float:
        """New tokens of a row for each forward pass, the first token (the prompt's) left out; 1 without speculation."""
        return (sum(map(len, self.tokens)) - len(self.tokens)) / max(1, sum(self.row_passes))


def decode(policy, prompts, speculator=None, max_new_tokens=32, temperature=0.0, top_p=1.0, seed=0, k=None, max_rows=64):
    """Complete each prompt once, with the speculator's drafts or without. Returns a Decoded.

    The output is that of plain decoding: token for token when greedy (up to ties within rounding), in distribution when sampled.
    speculator: None or an object with k, begin, draft and select, such as NGram, DraftModel or Heads. k: drafts a pass,
    the speculator's own by default. At most max_rows prompts are written at a time.
    Raises ValueError for no prompts, an empty prompt, arguments out of range, and what does not fit the model's context.
    """
    if isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"prompts must be a non-empty list of questions, got {prompts!r}")
    if temperature < 0 or not 0 < top_p <= 1 or max_new_tokens < 1 or max_rows < 1:
        raise ValueError(f"need temperature >= 0, 0 < top_p <= 1, max_new_tokens >= 1 and max_rows >= 1, "
                         f"got {temperature}, {top_p}, {max_new_tokens}, {max_rows}")
    k = _drafts(speculator, k)
    begun = time.perf_counter()
    ids, mask = policy.encode(prompts)
    rows = [row[keep.bool()] for row, keep in zip(ids, mask)]
    if min(map(len, rows)) == 0:
        raise ValueError(f"prompt {[len(row) for row in rows].index(0)} has no tokens; expected at least one")
    limit = getattr(policy.model.config, "max_position_embeddings", None)
    longest = max(map(len, rows))
    if limit and longest + max_new_tokens + k > limit:
        raise ValueError(f"a prompt of {longest} tokens, {max_new_tokens} new ones and {k} drafts exceed this model's context of "
                         f"{limit}; shorten the prompt, or lower max_new_tokens or k")
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(rows), max_new_tokens, 3, generator=generator).to(ids.device)
    out = Decoded([], [], [], 0, [], 0, 0, 0.0)
    for i in range(0, len(rows), max_rows):
        part = rows[i:i + max_rows]
        lengths = torch.tensor([len(row) for row in part], device=ids.device)
        _Batch(policy, part, lengths, speculator, k, max_new_tokens,
               Sampling(temperature, top_p, uniform[i:i + max_rows], lengths.clone()), out).run()
    out.texts = policy.tokenizer.batch_decode(out.tokens, skip_special_tokens=True)
    out.seconds = time.perf_counter() - begun
    return out


def _drafts(speculator, k) -> int:
    """How many tokens are drafted in a pass."""
    most = getattr(speculator, "most", None)
    if speculator is None:
        if k:
            raise ValueError(f"k={k} without a speculator; pass speculate=\"ngram\", \"draft\", \"turbo\" or a speculator")
        return 0
    k = speculator.k if k is None else k
    if k < 1 or most is not None and k > most:
        raise ValueError(f"k is {k}; expected the number of tokens to draft, at least 1"
                         + (f" and at most {most}, the number of its heads" if most is not None else ""))
    return k


class _Batch:
    """Rows that are written together. `number` (B,): which row of the batch each remaining one is."""

    def __init__(self, policy, rows, lengths, speculator, k, new_tokens, sampling, out):
        self.policy, self.speculator, self.k, self.sampling, self.out = policy, speculator, k, sampling, out
        self.capacity = int(lengths.max()) + new_tokens + k
        ids = lengths.new_full((len(rows), self.capacity), policy.pad_id)
        for place, row in zip(ids, rows):
            place[: len(row)] = row
        self.text, self.number = Text(ids, lengths.clone()), torch.arange(len(rows), device=ids.device)
        self.ends, self.new_tokens = torch.tensor(sorted(policy.end_ids), device=ids.device), new_tokens
        self.drafted = torch.zeros_like(ids, dtype=torch.bool)
        self.done = torch.zeros(len(rows), dtype=torch.bool, device=ids.device)
        self.finished, self.passes = [None] * len(rows), torch.zeros(len(rows), dtype=torch.long)

    @torch.no_grad()
    def run(self) -> None:
        text, decoder = self.text, decoder_for(self.policy.model)
        cache = decoder.new_cache(self.capacity)
        prompt = text.ids[:, : int(text.lengths.max())]
        hidden = decoder.hidden(prompt, cache, torch.zeros_like(text.lengths))
        hidden = hidden[torch.arange(len(hidden), device=hidden.device), text.lengths - 1][:, None]
        if self.speculator:
            self.speculator.begin(self.policy, text, self.capacity)
        draft, counts, probs = prompt[:, :0], torch.zeros_like(text.lengths), None
        while True:
            self.keep(decoder.logits(hidden), hidden, draft, counts, probs)
            if bool(self.done.all()):
                break
            self.leave(cache)
            draft, counts, probs = self.propose()
            last = text.ids.gather(1, text.lengths[:, None] - 1)
            hidden = decoder.hidden(torch.cat([last, draft], 1), cache, text.lengths - 1)
            self.out.passes += 1
            self.passes[self.number[~self.done].cpu()] += 1
        self.leave(None)
        self.out.tokens += [tokens for tokens, _ in self.finished]
        self.out.drafted += [drafted for _, drafted in self.finished]
        self.out.row_passes += self.passes.tolist()

    def propose(self):
        """Drafts for the next pass, never more than could still be kept."""
        text = self.text
        room = self.new_tokens - (text.lengths - self.sampling.first) - 1
        count = min(self.k, int(room.masked_fill(self.done, 0).max()))
        if count == 0:
            return text.ids[:, :0], torch.zeros_like(text.lengths), None
        draft, counts, probs = self.speculator.draft(text, count, self.sampling)
        counts = torch.minimum(counts, room.clamp(min=0)).masked_fill(self.done, 0)
        used = int(counts.max())
        return draft[:, :used], counts, None if probs is None else probs[:, :used]

    def keep(self, logits, hidden, draft, counts, probs) -> None:
        """Apply the rule, and write what was accepted, and the token after it, into the text; stop at an end token."""
        text, s = self.text, self.sampling
        if s.temperature == 0:
            accepted, after = rule.accept_greedy(logits, draft, counts)
        else:
            places = text.lengths[:, None] + torch.arange(draft.shape[1] + 1, device=draft.device)
            accepted, after = rule.accept_sampled(rule.adjusted(logits, s.temperature, s.top_p), draft, counts, probs,
                                                  s.at(places)[..., :2])
        live = ~self.done
        self.out.accepted += int(accepted[live].sum())
        self.out.tested += int(torch.minimum(accepted + 1, counts)[live].sum())
        order = torch.arange(draft.shape[1] + 1, device=draft.device)
        new = torch.cat([draft, after[:, None]], 1)
        new = torch.where(order == accepted[:, None], after[:, None], new)
        ended = torch.isin(new, self.ends) & (order <= accepted[:, None])
        written = torch.where(ended.any(1), ended.long().argmax(1), accepted) + 1
        written = written.masked_fill(self.done, 0)
        fits = order < written[:, None]
        rows, columns = fits.nonzero(as_tuple=True)
        text.ids[rows, text.lengths[rows] + columns] = new[rows, columns]
        self.drafted[rows, text.lengths[rows] + columns] = (order < accepted[:, None])[rows, columns]
        text.hidden = hidden[torch.arange(len(hidden), device=hidden.device), (written - 1).clamp(min=0)]
        text.lengths += written
        self.done |= ended.any(1) | (text.lengths - s.first >= self.new_tokens)

    def leave(self, cache) -> None:
        """Take finished rows out of the batch once they are a quarter of it; copying the cache for fewer does not pay."""
        text, finished = self.text, int(self.done.sum())
        if cache is not None and finished * 4 < len(self.done):
            return
        for row in self.done.nonzero()[:, 0].tolist():
            part = slice(int(self.sampling.first[row]), int(text.lengths[row]))
            self.finished[int(self.number[row])] = text.ids[row, part].tolist(), self.drafted[row, part].tolist()
        if not finished or cache is None:
            return
        stay = (~self.done).nonzero()[:, 0]
        text.ids, text.lengths, text.hidden = text.ids[stay], text.lengths[stay], text.hidden[stay]
        self.number, self.drafted, self.done = self.number[stay], self.drafted[stay], self.done[stay]
        cache.select(stay)
        self.sampling.select(stay)
        if self.speculator:
            self.speculator.select(stay)
