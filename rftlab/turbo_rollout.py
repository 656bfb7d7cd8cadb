"""Does speculation pay in RFT's rollouts? Finished rows leave the batch, so its tail is a small one.

    python -m rftlab.turbo_rollout [smollm2|tiny]        writes data/results/turbo/rollout-<model>.json

The rollout of a GRPO step with the adapter and heads of rftlab/bench_turbo.py: 4 and 8 prompts, 8 sampled completions each. In turns:
rollout.rollout, which training uses; decoding without drafts; with drafts always; with drafts once at most `rows` rows are left.
"""
import argparse
import json
import statistics
import sys
import time

GROUP, LATE = 8, (1, 4, 8, 16)


def ways(policy, heads, k, new_tokens):
    """name -> function(prompts, seed) -> (tokens written, passes or None)."""
    from rftlab import speculative
    from rftlab.rollout import rollout
    from rftlab.speculative.late import Late

    def by_rollout(prompts, seed):
        return rollout(policy, prompts, GROUP, new_tokens, 1.0, seed).tokens, None

    def by_decode(speculator):
        def run(prompts, seed):
            repeated = [p for p in prompts for _ in range(GROUP)]
            out = speculative.decode(policy, repeated, speculator, new_tokens, 1.0, seed=seed, k=k if speculator else None)
            return sum(map(len, out.tokens)), out.passes
        return run

    return {"rollout": by_rollout, "plain": by_decode(None), "turbo": by_decode(heads),
            **{f"turbo, {rows} rows left": by_decode(Late(heads, rows)) for rows in LATE}}


def compare(policy, heads, prompts, k=4, new_tokens=128, runs=3) -> list[dict]:
    """For each number of prompts and way {sequences, way, tokens_per_second (median), tokens_per_cpu_second, seconds, passes}.

    Seconds of the processor are those of the clock on one thread of an idle machine; on a busy one, only they can be compared.
    """
    rows = []
    for count in (4, 8):
        asked, found = [prompts[i % len(prompts)] for i in range(count)], {}
        for seed in range(runs):
            for name, run in ways(policy, heads, min(k, heads.most), new_tokens).items():
                begun, used = time.perf_counter(), time.process_time()
                tokens, passes = run(asked, seed)
                found.setdefault(name, []).append((time.perf_counter() - begun, time.process_time() - used, tokens, passes))
        for name, several in found.items():
            rows.append({"sequences": count * GROUP, "way": name, "tokens_per_second": statistics.median(t / s for s, _, t, _ in several),
                         "tokens_per_cpu_second": statistics.median(t / c for _, c, t, _ in several),
                         "seconds": [s for s, *_ in several], "passes": [p for *_, p in several]})
    return rows


def main(arguments=None) -> int:
    from rftlab import bench_turbo, machine, records, speculative

    parser = argparse.ArgumentParser(prog="python -m rftlab.turbo_rollout", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", choices=[*bench_turbo.RECIPES], default="smollm2", help="smollm2 where left out")
    model = parser.parse_args(arguments).model
    folder = bench_turbo.prepared(model)
    policy = bench_turbo.writer(model, lora=folder)
    new_tokens = bench_turbo.SHORT.get(model, (128,))[0]
    found = compare(policy, speculative.find(policy, "turbo"), json.loads((folder / "prompts.json").read_text()), new_tokens=new_tokens)
    path = records.results_folder() / "turbo" / f"rollout-{model}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"model": model, "dtype": str(policy.model.dtype), **machine.environment(), "commit": records.commit(),
                                "rows": found}, indent=1) + "\n")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
