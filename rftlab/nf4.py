"""NF4, the 4-bit number format of QLoRA (Dettmers et al. 2023, arXiv 2305.14314), by hand.

Weights of a trained layer are spread about like a normal distribution. The 16 levels are quantiles of it, so that each is used about
equally often; 64 neighbouring weights share a scale, their largest size; the scales themselves are stored in 8 bits (double
quantisation). Equal to bitsandbytes 0.50; two details are its own and not the paper's: the offset 0.9677, and the 8-bit format.
"""
import torch

BLOCK, SCALE_BLOCK = 64, 256
OFFSET = 0.9677083  # the outermost quantile, 1 - (1/30 + 1/32) / 2: the quantile of 1 would be infinite


def levels() -> torch.Tensor:
    """The 16 values, from -1 to 1: 7 quantiles below 0, then 0, 8 above it. One of them is 0, so that a 0 stays one."""
    above = torch.special.ndtri(torch.linspace(OFFSET, 0.5, 9, dtype=torch.float64)[:-1])
    below = torch.special.ndtri(torch.linspace(OFFSET, 0.5, 8, dtype=torch.float64)[:-1])
    values = torch.cat([above, -below, torch.zeros(1, dtype=torch.float64)]).sort().values
    return (values / values.max()).float()


def scale_levels() -> torch.Tensor:
    """The 256 values of the 8-bit format for scales: 7 decades from 1 down, with more and more steps in each (dynamic map)."""
    values = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)
        values += middles.tolist() + (-middles).tolist()
    return torch.tensor(sorted(values))


def nearest(values, table):
    """The index of the nearest entry of a rising `table`, for each value: uint8."""
    return torch.bucketize(values, (table[:-1] + table[1:]) / 2).to(torch.uint8)


def by_block(values, block):
    """Values (n,) in rows of `block`, filled up with zeros."""
    return torch.nn.functional.pad(values, (0, -len(values) % block)).view(-1, block)


def quantise(weight, block=BLOCK):
    """Any tensor -> codes (n,) uint8 of 0 to 15, scales (ceil(n / block),) float32: each block's largest size."""
    rows = by_block(weight.detach().flatten().float(), block)
    scales = rows.abs().amax(1)
    scaled = rows / torch.where(scales > 0, scales, 1)[:, None]
    return nearest(scaled, levels()).flatten()[: weight.numel()], scales


def dequantise(codes, scales, shape, block=BLOCK):
    """The numbers that the codes stand for, float32 of `shape`."""
    values = by_block(levels()[codes.long()], block) * scales[:, None]
    return values.flatten()[: codes.numel()].view(shape)


def quantise_scales(scales, block=SCALE_BLOCK):
    """Scales (n,) -> codes (n,) uint8, a scale for each `block` of them, and their mean, which is taken off first."""
    offset = scales.mean()
    rows = by_block(scales - offset, block)
    largest = rows.abs().amax(1)
    scaled = rows / torch.where(largest > 0, largest, 1)[:, None]
    return nearest(scaled, scale_levels()).flatten()[: len(scales)], largest, offset


def dequantise_scales(codes, largest, offset, block=SCALE_BLOCK):
    return (by_block(scale_levels()[codes.long()], block) * largest[:, None]).flatten()[: len(codes)] + offset
