"""Speed against batch size: measured, and predicted from an acceptance rate and the cost of passes.

    python -m rftlab.turbo_curve [smollm2|tiny]        writes data/results/turbo/curve-<model>.json

The prediction knows nothing of the speculative run but its acceptance rate: tokens a pass from `cost.expected_tokens`, the cost of a
pass over 1 and over k + 1 tokens measured apart, the drafts' cost measured apart. Where it is off by more than a sixth, an
assumption is wrong: guesses are not alike, or rows that finish early leave the batch half empty.
"""
import argparse
import json
import statistics
import sys
import time

BATCHES, WIDTHS = (1, 2, 4, 8, 16, 32, 64), (1, 2, 3, 5, 7, 9)
H100 = {"bandwidth": 3.35e12, "flops": 990e12}  # NVIDIA's data sheet, SXM, dense bfloat16: nobody reaches them


def pass_seconds(policy, rows, tokens, context=256, runs=7) -> float:
    """Median seconds of a pass, output head included, over `tokens` tokens of `rows` rows after `context` known ones."""
    import torch

    from rftlab.decoder import decoder_for
    from rftlab.machine import median_seconds

    decoder, start = decoder_for(policy.model), torch.full((rows,), context, device=policy.model.device)
    cache = decoder.new_cache(context + tokens)
    ids = torch.full((rows, tokens), policy.pad_id, device=policy.model.device)

    @torch.no_grad()
    def one():
        decoder.logits(decoder.hidden(ids, cache, start)).max(-1)

    return median_seconds(one, runs)


def draft_seconds(policy, speculator, rows, count, context=256, runs=7) -> float:
    """Median seconds of making `count` drafts for `rows` rows, greedily."""
    import torch

    from rftlab.machine import median_seconds
    from rftlab.speculative.decode import Sampling, Text

    device, width = policy.model.device, policy.model.config.hidden_size
    text = Text(torch.full((rows, context + count + 1), policy.pad_id, device=device), torch.full((rows,), context, device=device),
                torch.zeros(rows, width, dtype=policy.model.dtype, device=device))
    sampling = Sampling(0.0, 1.0, torch.zeros(rows, count, 3, device=device), text.lengths.clone())
    with torch.no_grad():
        speculator.begin(policy, text, context + count + 1)
        return median_seconds(lambda: speculator.draft(text, count, sampling), runs)


def points(policy, speculator, prompts, rows, ks, new_tokens, passes) -> list[dict]:
    """For each k: plain and speculative tokens a second of `rows` answers written at once, and what the cost model says.

    The ways take turns; the median of 3 rounds, and of one for more than 8 rows, whose times vary less and are longer.
    """
    from rftlab.speculative import cost, decode

    asked = [prompts[i % len(prompts)] for i in range(rows)]
    seconds, last = {k: [] for k in (0, *ks)}, {}
    for _ in range(3 if rows <= 8 else 1):
        for k in seconds:
            begun = time.perf_counter()
            last[k] = decode(policy, asked, speculator if k else None, new_tokens, k=k or None, max_rows=rows)
            seconds[k].append(time.perf_counter() - begun)
    speed = {k: sum(map(len, last[k].tokens)) / statistics.median(several) for k, several in seconds.items()}
    found = []
    for k in ks:
        a = last[k].acceptance_rate
        predicted = cost.speedup(cost.expected_tokens(a, k), passes[rows][1], passes[rows][k + 1], draft_seconds(policy, speculator, rows, k))
        identical = sum(x == y for x, y in zip(last[0].tokens, last[k].tokens)) / rows
        found.append({"batch": rows, "k": k, "acceptance_rate": a, "tokens_per_pass": last[k].tokens_per_pass, "plain": speed[0],
                      "turbo": speed[k], "speedup": speed[k] / speed[0], "predicted": predicted, "identical": identical})
    return found


def curve(model="smollm2", batches=BATCHES, new_tokens=128, ks=(2, 4, 8)) -> dict:
    """All points for the adapter and heads of `rftlab.bench_turbo`, the break-even of each k, and the H100 as predicted."""
    import rftlab
    from rftlab import bench_turbo, machine, speculative
    from rftlab.speculative import cost

    folder = bench_turbo.prepared(model)
    policy = bench_turbo.writer(model, lora=folder)
    heads, prompts = speculative.find(policy, "turbo"), json.loads((folder / "prompts.json").read_text())
    ks = [k for k in ks if k <= heads.most]
    widths = sorted({*WIDTHS, *(k + 1 for k in ks)})
    passes = {rows: {n: pass_seconds(policy, rows, n) for n in widths} for rows in batches}
    found = [p for rows in batches for p in points(policy, heads, prompts, rows, ks, new_tokens, passes)]
    breaks = {}
    for k in ks:
        mine = [p for p in found if p["k"] == k]
        breaks[k] = {kind: cost.break_even_batch([p["batch"] for p in mine], [p[kind] for p in mine]) for kind in ("speedup", "predicted")}
    a = statistics.mean(p["acceptance_rate"] for p in found)
    weights = sum(p.numel() for p in policy.model.parameters())
    h100 = {rows: cost.best_k(a, [cost.pass_seconds(rows, n + 1, weights, **H100) for n in range(max(ks) + 1)]) for rows in batches}
    return {"model": model, "dtype": str(policy.model.dtype), **machine.environment(), "commit": rftlab.records.commit(), "new_tokens": new_tokens,
            "pass_seconds": passes, "points": found, "break_even": breaks,
            "h100_predicted": {"what": "roofline of the data sheet, acceptance rate measured here; predicted, not measured", "best_k_and_speedup": h100}}


def draw(axis, record) -> None:
    """Speed-up against the answers written at once; a colour for each k, measured with marks, predicted dashed."""
    from rftlab.drawing import PALETTE

    ks = sorted({p["k"] for p in record["points"]})
    for k, colour, marker in zip(ks, PALETTE, "os^Dv"):
        batches, measured, predicted = zip(*[(p["batch"], p["speedup"], p["predicted"]) for p in record["points"] if p["k"] == k])
        axis.plot(batches, measured, marker=marker, color=colour, label=f"{k} guesses, measured")
        axis.plot(batches, predicted, "--", color=colour, label=f"{k} guesses, predicted")
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(xscale="log", xlabel="answers written at once", ylabel="speed-up over plain decoding", ylim=(0, None), xticks=batches,
             xticklabels=batches)
    axis.minorticks_off()
    axis.legend(fontsize=8)


def main(arguments=None) -> int:
    from rftlab import bench_turbo, records

    parser = argparse.ArgumentParser(prog="python -m rftlab.turbo_curve", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", choices=[*bench_turbo.RECIPES], default="smollm2", help="smollm2 where left out")
    model = parser.parse_args(arguments).model
    path = records.results_folder() / "turbo" / f"curve-{model}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(curve(model), indent=1) + "\n")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
