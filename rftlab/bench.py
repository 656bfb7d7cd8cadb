"""Speed as a ratio: ours and a peer's, interleaved in one run on one machine, medians, and how far both are from the limit.

    python -m rftlab bench step        one GRPO step on SmolLM2 beside TRL's GRPOTrainer: seconds, peak memory
    python -m rftlab bench rollout     64 sequences of 128 new tokens beside transformers' generate
    python -m rftlab bench grader      kernel completions a second beside a fresh Python process for each
    python -m rftlab bench kernel-step GRPO steps of the kernel experiment beside TRL's (rftlab.bench_kernels)
    python -m rftlab bench turbo       greedy answers one at a time beside generate and its own speculation (rftlab.bench_turbo)
"""
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

PROMPTS, GROUP, NEW_TOKENS, RANK = 8, 8, 12, 16


def row(name, unit, ours, peer, peer_value, limit, runs, more_is_better):
    """One line of the table: ratio above 1 means that we are better; limit is the machine's own."""
    ratio = ours / peer_value if more_is_better else peer_value / ours
    share = None if limit is None else (ours / limit if more_is_better else limit / ours)
    return {"name": name, "unit": unit, "ours": round(ours, 3), "peer": peer, "peer_value": round(peer_value, 3),
            "ratio": round(ratio, 2), "limit": limit and round(limit, 3), "share_of_limit": share and round(share, 3),
            "runs": runs}


def questions():
    from rftlab import load_task

    return load_task("arithmetic", forms=("plain",)).train(PROMPTS, seed=0)


def paid(prompts, completions, **columns):
    """A reward that differs within each group, so that both trainers compute the gradient of every completion."""
    return [float(i % GROUP) for i in range(len(completions))]


def repeat(step, gate):
    """Call `step` at each request, for ever."""
    while True:
        gate.begin()
        step()
        gate.end()


def our_step(gate):
    """The steps of `rftlab.grpo.train`, every completion of full length, all groups in one pass as the peer has them."""
    import rftlab
    from rftlab import grpo

    policy = Endless.of(rftlab.load_policy("smollm2", lora=rftlab.LoraSpec(RANK, 2 * RANK)))

    def next_step(metrics):
        gate.end()
        gate.begin()

    gate.begin()
    grpo.train(policy, rftlab.load_task("arithmetic"), questions(), steps=10**6, prompts_per_step=PROMPTS, group_size=GROUP,
               max_new_tokens=NEW_TOKENS, reward_fn=paid, lr=1e-5, prompts_per_pass=PROMPTS, on_step=next_step)


class Endless:
    """A policy whose completions never end early: all sequences get the same length, as the peer is told to do."""

    @staticmethod
    def of(policy):
        from rftlab.models import Policy

        class EndlessPolicy(Policy):
            end_ids = frozenset({-1})

        return EndlessPolicy(policy.name, policy.model, policy.tokenizer, policy.raw, policy.spec, policy.adapters)


def trl_step(gate):
    """The same steps by TRL's GRPOTrainer with PEFT's LoRA, in its fastest setting here: one batch, no checkpointing.

    TRL 1.15 computes its head in a Triton kernel, which does not run without a GPU; there the same values come from torch.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from rftlab import machine, models
    from rftlab.lora import ALL_LINEAR
    from rftlab.trl_head import use_plain_head_without_gpu

    use_plain_head_without_gpu()

    class StepGate(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            gate.begin()

        def on_step_end(self, *args, **kwargs):
            gate.end()

    folder = models.smollm2_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, machine.fast_dtype()))
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": p.prompt}]} for p in questions()])
    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=machine.device() == "cpu", bf16=False, learning_rate=1e-5, max_steps=10**6,
        per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP, max_completion_length=NEW_TOKENS,
        gradient_checkpointing=False, generation_kwargs={"min_new_tokens": NEW_TOKENS}, disable_tqdm=True, report_to="none",
        save_strategy="no", logging_strategy="no", dataloader_pin_memory=False)
    GRPOTrainer(model, paid, args, data, processing_class=tokenizer, callbacks=[StepGate()], peft_config=LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules=list(ALL_LINEAR))).train()


class Gate:
    """A child's end of the pipe: waits for a request before each step and reports its seconds and the peak memory so far."""

    def __init__(self, pipe):
        self.pipe = pipe

    def begin(self):
        self.pipe.recv()
        self.start = time.perf_counter()

    def end(self):
        self.pipe.send((time.perf_counter() - self.start, peak_memory()))


def peak_memory() -> int:
    """Bytes of memory that this process has held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's ru_maxrss counts the parent's memory from before the exec as well
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _child(maker, pipe):
    maker(Gate(pipe))


def interleaved(makers, runs):
    """[(median seconds, peak bytes)] of each maker's steps: in turns, each in its own process, never two at the same time.

    The first step of each is a warm-up and not counted. Raises ValueError when a process fails.
    """
    context, workers, found = multiprocessing.get_context("spawn"), [], [[] for _ in makers]
    try:
        for maker in makers:
            ours, theirs = context.Pipe()
            process = context.Process(target=_child, args=(maker, theirs), daemon=True)
            process.start()
            theirs.close()  # else the pipe would outlive the process, and nobody would notice its death
            workers.append((process, ours))
            _one_step(maker, ours)
        for _ in range(runs):
            for maker, (_, pipe), seen in zip(makers, workers, found):
                seen.append(_one_step(maker, pipe))
    finally:
        for process, _ in workers:
            process.terminate()
    return [(statistics.median(s for s, _ in seen), seen[-1][1]) for seen in found]


def _one_step(maker, pipe) -> tuple:
    """(seconds, peak bytes) of a step of the process at the other end."""
    try:
        pipe.send("go")
        return pipe.recv()
    except (EOFError, ConnectionError):
        given = getattr(maker, "keywords", {})  # a partial has no name of its own
        name = getattr(maker, "func", maker).__name__ + (f" ({given['method']})" if "method" in given else "")
        raise ValueError(f"the process that measures {name} failed, so that there is nothing to compare; what it said stands above: "
                         "mend that, and start the bench again") from None


def bench_step(runs=5):
    """Rows step_seconds and step_memory."""
    (ours, our_bytes), (theirs, their_bytes) = interleaved([our_step, trl_step], runs)
    return [row("step_seconds", "s", ours, "trl GRPOTrainer", theirs, step_limit(), runs, False),
            row("step_memory", "GB, peak of the process", our_bytes / 1e9, "trl GRPOTrainer", their_bytes / 1e9, None, runs, False)]


def step_limit():
    """Seconds that the multiplications of one step take at the measured rate: prompts once, each completion once, no overhead.

    Completions that begin alike share what they have in common, so that a step may take less.
    """
    from rftlab import load_policy

    policy = load_policy("smollm2")
    return multiplications(policy, policy.encode([p.prompt for p in questions()])[1].sum().item(), PROMPTS * GROUP, NEW_TOKENS)


def multiplications(policy, prompt_tokens, rows, new_tokens) -> float:
    """Seconds of one GRPO step at the measured rate: forward and the gradient of the inputs are 2 operations a weight and token each.

    A decoding step multiplies `rows` rows; the head is needed at completion tokens only.
    """
    import torch

    from rftlab import machine

    dtype = getattr(torch, machine.fast_dtype())
    head = policy.model.get_output_embeddings().weight.numel()
    body = sum(p.numel() for p in policy.model.parameters()) - head
    completion = rows * new_tokens
    rate, small = machine.matmul_flops(dtype, 1024), machine.matmul_flops(dtype, rows)
    rollout = 2 * prompt_tokens * body / rate + 2 * completion * (body + head) / small
    return rollout + (4 * (prompt_tokens + completion) * body + 4 * completion * head) / rate


def our_rollout(gate, sequences=64, new_tokens=128):
    import rftlab
    from rftlab.rollout import rollout

    policy = Endless.of(rftlab.load_policy("smollm2"))
    prompts = [p.prompt for p in questions()]
    repeat(lambda: rollout(policy, prompts, sequences // PROMPTS, new_tokens, 1.0, seed=0), gate)


def generate_rollout(gate, sequences=64, new_tokens=128):
    import rftlab

    policy = rftlab.load_policy("smollm2")
    policy.model.set_attn_implementation("sdpa")
    ids, mask = (t.repeat_interleave(sequences // PROMPTS, 0) for t in policy.encode([p.prompt for p in questions()]))
    repeat(lambda: policy.model.generate(input_ids=ids, attention_mask=mask, do_sample=True, top_k=0, top_p=1.0,
                                         min_new_tokens=new_tokens, max_new_tokens=new_tokens, pad_token_id=policy.pad_id), gate)


def bench_rollout(runs=3):
    """Row rollout_tokens_per_s: 64 sequences x 128 new tokens, sampled at temperature 1."""
    import torch

    from rftlab import machine, load_policy

    (ours, _), (theirs, _) = interleaved([our_rollout, generate_rollout], runs)
    weights = sum(p.numel() for p in load_policy("smollm2").model.parameters())
    dtype = getattr(torch, machine.fast_dtype())
    by_compute = machine.matmul_flops(dtype, 64) / (2 * weights)
    by_memory = 64 * machine.memory_bandwidth() / (weights * dtype.itemsize)
    tokens = 64 * 128
    return [row("rollout_tokens_per_s", "tokens/s", tokens / ours, "transformers generate", tokens / theirs,
                min(by_compute, by_memory), runs, True)]


def bench_turbo():
    """Rows turbo_vs_generate, turbo_vs_best_assisted, plain_vs_generate: `rftlab.bench_turbo`."""
    from rftlab import bench_turbo

    return bench_turbo.bench_turbo()


def bench_grader(runs=5):
    """Rows grades_per_s, grades_per_s_compiled, lockdown_share, grader_memory_growth: `rftlab.kernels.bench`."""
    from rftlab.kernels import bench

    return bench.rows(runs)


def bench_kernel_step():
    """Rows kernel_step_seconds and kernel_step_full_length: `rftlab.bench_kernels`."""
    from rftlab import bench_kernels

    return bench_kernels.bench_kernel_step()


BENCHES = {"step": bench_step, "rollout": bench_rollout, "turbo": bench_turbo, "grader": bench_grader, "kernel-step": bench_kernel_step}


def table(rows) -> str:
    """The rows as text, with what the limit means."""
    lines = [f"{'':24}{'ours':>10}{'peer':>10}{'ratio':>8}{'limit':>10}  unit, peer"]
    for r in rows:
        limit = "" if r["limit"] is None else f"{r['limit']:.2f}"
        lines.append(f"{r['name']:24}{r['ours']:>10.2f}{r['peer_value']:>10.2f}{r['ratio']:>7.1f}x{limit:>10}  "
                     f"{r['unit']}, {r['peer']}")
    notes = [f"{r['name']}: {100 * r['share_of_limit']:.0f} % of what this machine's measured multiplication rate"
             " and memory bandwidth allow" for r in rows if r["share_of_limit"]]
    return "\n".join(lines + notes)


def main(name, as_json=False, save=None) -> None:
    """Run one bench and print its rows; `save` names a folder for them, with machine, versions and commit."""
    from rftlab import machine, records

    rows = BENCHES[name]()
    print(json.dumps(rows, indent=1) if as_json else table(rows))
    if save:
        made = {**machine.environment(), "commit": records.commit(), "date": time.strftime("%Y-%m-%d")}
        Path(save).mkdir(parents=True, exist_ok=True)
        (Path(save) / f"{name}.json").write_text(json.dumps({**made, "rows": rows}, indent=1) + "\n")
