"""The calculator of rftlab/memory.py against what torch's allocator counts.

    python -m rftlab.memory_measured [smollm2|tiny]        writes data/results/memory/<model>.json
"""
import argparse
import contextlib
import json
import os
import sys
from dataclasses import asdict

from rftlab import memory

WAYS = ("full", "lora-merged", "lora")
WORKS = ((2, 4, 24, 1),)  # prompts, completions each, tokens each, prompts a pass


def measure(policy, task, work, merged=True, steps=2) -> dict:
    """Train for `steps` steps under torch's profiler: {"static", "peak"} bytes, as the allocator counts them on a CPU.

    Completions never end early, so that every run has the lengths of `work`, and are drawn nearly at random, so that no two begin
    alike: what they share would be held once. The longest prompt of task.train(work.prompts) has work.prompt_tokens. merged=False: adapters beside the weights, as PEFT computes. Memory that torch does not allocate (Python,
    libraries) is not seen.
    """
    from dataclasses import replace

    import torch

    from rftlab import grpo, lora
    from rftlab.bench import Endless

    problems = task.train(work.prompts, seed=0)
    if not merged:
        lora.unmerge(policy.adapters)
        policy = replace(policy, adapters={})  # what is not known cannot be merged after a step
    tensors = [*policy.model.parameters(), *policy.model.buffers(), *(a.merged for a in policy.adapters.values() if a.merged is not None)]
    static = sum(s.nbytes() for s in {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}.values())
    options = dict(steps=steps, prompts_per_step=work.prompts, group_size=work.group, max_new_tokens=work.completion_tokens,
                   prompts_per_pass=work.per_pass, reward_fn=_uneven, temperature=100.0)
    with _quiet(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        grpo.train(Endless.of(policy), task, problems, **options)
    sizes = [(e.start_ns(), e.nbytes()) for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for _, size in sorted(sizes, key=lambda pair: pair[0]):
        held += size
        peak = max(peak, held)
    return {"static": static, "peak": static + peak}


@contextlib.contextmanager
def _quiet():
    """Without the lines that the profiler's library writes to the process's stderr, past Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _uneven(prompts, completions, **columns):
    """Rewards that differ within each group, so that no group is left out of the pass."""
    return [float(i % 2) for i in range(len(completions))]


def compare(model, dtype=None, works=WORKS, ways=WAYS) -> list[dict]:
    """For each work and way of training {method, work, static, peak, estimated_static, estimated}, in bytes. One process
    measures all: each policy is dropped before the next."""
    import rftlab

    task, rows = rftlab.load_task("arithmetic"), []
    for prompts, group, tokens, per_pass in works:
        for method in ways:
            spec = None if method == "full" else rftlab.LoraSpec()
            policy = rftlab.load_policy(model, lora=spec, dtype=dtype)
            length = policy.encode([p.prompt for p in task.train(prompts, seed=0)])[0].shape[1]
            work = memory.Work(prompts, group, length, tokens, per_pass)
            width = policy.model.dtype.itemsize
            expected = memory.estimate(memory.Architecture.of(policy.model), method, work, spec, width, cache_width=4)
            found = measure(policy, task, work, merged=method != "lora")
            rows.append({"method": method, "work": asdict(work), "dtype": str(policy.model.dtype).removeprefix("torch."), **found,
                         "estimated_static": expected.weights + expected.adapters, "estimated": expected.peak})
    return rows


def main(arguments=None) -> int:
    from rftlab import machine, records

    parser = argparse.ArgumentParser(prog="python -m rftlab.memory_measured", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", choices=["smollm2", "tiny"], default="smollm2", help="smollm2 where left out")
    model = parser.parse_args(arguments).model
    path = records.results_folder() / "memory" / f"{model}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"model": model, **machine.environment(), "commit": records.commit(), "rows": compare(model, "float32" if model == "tiny" else "bfloat16")}
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
