"""A key-value cache of fixed size in which every row has its own length, so that taking tokens back costs nothing.

Column j of a row holds the keys and values of that row's token at position j. A row that goes back simply writes over
columns later: whoever looks at position p sees columns 0 to p, and never what stands beyond.
"""
import torch
from transformers.cache_utils import Cache, DynamicLayer


class _Slots(DynamicLayer):
    """Keys and values (B, K, capacity, D) of one layer, allocated at the first write."""

    def __init__(self, cache):
        super().__init__()
        self.cache = cache

    def update(self, key_states, value_states, *args, **kwargs):
        """Write (B, K, Q, D) at the positions that `StaticCache.at` named; return all columns up to the last of them."""
        cache = self.cache
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            B, K, _, D = key_states.shape
            self.keys, self.values = (torch.zeros(B, K, cache.capacity, D, dtype=cache.dtype, device=key_states.device)
                                      for _ in range(2))  # zeros: a column that nobody may see must still not be NaN
        if cache.first is not None:
            self.keys[:, :, cache.first:cache.end] = key_states
            self.values[:, :, cache.first:cache.end] = value_states
        else:
            rows = torch.arange(len(key_states), device=key_states.device)[:, None]
            self.keys[rows, :, cache.positions] = key_states.transpose(1, 2).to(cache.dtype)
            self.values[rows, :, cache.positions] = value_states.transpose(1, 2).to(cache.dtype)
        return self.keys[:, :, :cache.end], self.values[:, :, :cache.end]

    def get_seq_length(self) -> int:
        return self.cache.end


class StaticCache(Cache):
    """`at` says where the next forward pass writes; `mask` what it may look at; `select` keeps some rows."""

    def __init__(self, num_layers: int, capacity: int, dtype: torch.dtype):
        self.capacity, self.dtype = capacity, dtype
        self.positions, self.first, self.end = None, None, 0
        super().__init__(layers=[_Slots(self) for _ in range(num_layers)])

    def at(self, start: torch.Tensor, count: int) -> None:
        """The next pass holds `count` tokens a row, at positions start, start + 1, ... of that row; start (B,).

        Raises ValueError when they do not fit.
        """
        low, high = int(start.min()), int(start.max())
        if high + count > self.capacity:
            raise ValueError(f"{count} tokens at position {high} do not fit a cache of {self.capacity}; draft fewer tokens "
                             "(a smaller k), or make the cache larger")
        self.positions = start[:, None] + torch.arange(count, device=start.device)
        self.first, self.end = low if low == high else None, high + count

    def mask(self, dtype: torch.dtype):
        """What is added to the scores, (B or 1, 1, Q, end): 0 where a query may look, else minus infinity; None if all."""
        if self.first is not None and self.positions.shape[1] == 1:
            return None
        positions = self.positions[:1] if self.first is not None else self.positions
        hidden = torch.arange(self.end, device=positions.device) > positions[:, :, None]
        return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)[:, None]

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order."""
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
