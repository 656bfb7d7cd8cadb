"""What speculation is worth, before it is tried: pure functions of an acceptance rate and of the cost of a forward pass."""
import math


def expected_tokens(acceptance_rate: float, k: int) -> float:
    """Mean new tokens of a pass with k drafts, each kept with the same probability a: (1 - a^(k+1)) / (1 - a).

    It is the sum of a^i for i = 0 to k: i drafts are all kept with probability a^i, and the token after them is free
    (Leviathan et al. 2023, equation 1). Raises ValueError for a rate outside [0, 1] or a negative k.
    """
    if not 0 <= acceptance_rate <= 1 or k < 0:
        raise ValueError(f"need an acceptance rate from 0 to 1 and k >= 0, got {acceptance_rate} and {k}")
    return float(sum(acceptance_rate**i for i in range(k + 1)))


def speedup(tokens_per_pass: float, plain_seconds: float, verify_seconds: float, draft_seconds: float = 0.0) -> float:
    """Tokens a second with speculation over those without.

    plain_seconds: a pass over one token a row; verify_seconds: a pass over k + 1; draft_seconds: making k drafts.
    """
    return tokens_per_pass * plain_seconds / (verify_seconds + draft_seconds)


def best_k(acceptance_rate: float, pass_seconds, draft_seconds: float = 0.0) -> tuple[int, float]:
    """(k, speed-up) with the highest speed-up: pass_seconds[i] is the cost of a pass over i + 1 tokens a row, draft_seconds
    that of one draft. k = 0, speed-up 1, where no draft pays."""
    values = [speedup(expected_tokens(acceptance_rate, k), pass_seconds[0], seconds, k * draft_seconds)
              for k, seconds in enumerate(pass_seconds)]
    k = max(range(len(values)), key=values.__getitem__)
    return k, values[k]


def pass_seconds(rows: int, tokens: int, parameters: float, bandwidth: float, flops: float, bytes_per_weight: float = 2,
                 overhead: float = 0.0) -> float:
    """Seconds of a forward pass over `tokens` tokens of each of `rows` rows, by the roofline model (Williams et al. 2009).

    Either reading all weights once takes longest (bandwidth, bytes a second) or the arithmetic does (flops a second, two
    operations a weight and token). overhead: what does not depend on the work. Attention and the cache are left out.
    """
    reading = parameters * bytes_per_weight / bandwidth
    return overhead + max(reading, 2 * parameters * rows * tokens / flops)


def break_even_batch(batches, speedups):
    """The batch size at which the speed-up falls to 1, between two of the given ones on a logarithmic axis.

    None where it never falls so low; the first batch where it never rises above 1. batches must rise.
    """
    if not batches or len(batches) != len(speedups) or any(a >= b for a, b in zip(batches, batches[1:])):
        raise ValueError(f"expected rising batch sizes and one speed-up for each, got {batches} and {speedups}")
    if speedups[0] <= 1:
        return float(batches[0])
    for (low, above), (high, below) in zip(zip(batches, speedups), zip(batches[1:], speedups[1:])):
        if below <= 1:
            share = (above - 1) / (above - below)
            return float(math.exp(math.log(low) + share * (math.log(high) - math.log(low))))
    return None


def price_per_million(tokens_per_second: float, price_per_hour: float) -> float:
    """What a million tokens cost on a machine that writes so many a second, all rows together."""
    return 1e6 / tokens_per_second / 3600 * price_per_hour


def machines_needed(requests_per_second: float, tokens_per_request: float, tokens_per_second: float) -> int:
    """How many machines write the tokens as fast as they are asked for; at least one."""
    return max(1, math.ceil(requests_per_second * tokens_per_request / tokens_per_second))
