"""GRPO steps of the kernel experiment beside TRL's GRPOTrainer with the same rewards: `python -m rftlab bench kernel-step`.

    kernel_step_seconds       as the experiment does it (kernel-grpo.toml, the runs from 8 passes): 8 prompts x 8 completions of at most
                              144 tokens at temperature 1, paid for right kernels alone. Ours ends a completion with the kernel's body,
                              and computes the gradient of the 4 of a group that differ most, none where all are paid alike; TRL ends one at
                              the end of the text, and computes the gradient of all
    kernel_step_full_length   4 prompts x 8 completions, all of 96 tokens, and the gradient of all of them, by both

SmolLM2 with LoRA of rank 16, prompts in its raw format, graded by the kernel grader with two workers, for both.
"""
import tempfile
from functools import partial
from pathlib import Path

RANK, GROUP = 16, 8
PROMPTS, NEW_TOKENS = 8, 144
FULL_PROMPTS, FULL_TOKENS = 4, 96
WARM = {"examples": "composed", "families": [], "operations": 2, "seeded": 0}  # as kernel-grpo.toml at lr 1e-4, which see
WARM_STEPS = 40  # 8 passes in batches of 3


def warm_folder() -> Path:
    """The adapter after the warm-up, in PEFT's format; made at the first call, about three minutes."""
    import rftlab
    from rftlab import kernel_grpo, machine, sft
    from rftlab.kernels import KernelGrader
    from rftlab.kernels.writing import KernelWriting

    folder = machine.cache_dir() / f"kernel-step-composed-{RANK}-{WARM_STEPS}"
    if not (folder / "adapter_model.safetensors").is_file():
        policy = rftlab.load_policy("smollm2", lora=rftlab.LoraSpec(RANK, 2 * RANK), raw=True)
        task = KernelWriting(KernelGrader())  # grades nothing here, and so starts no process
        sft.train(policy, task, kernel_grpo.labelled(task, WARM), steps=WARM_STEPS, prompts_per_step=3, lr=4e-4, target="solution",
                  prompts_per_pass=3)
        policy.save(folder)
    return folder


def questions(task, full=False):
    """The prompts of every step, the same for both; composed functions of at most two operations."""
    return task.fresh(FULL_PROMPTS if full else PROMPTS, most=2)


def reward_for(task, full=False):
    """Paid for right kernels alone; at full length a thousandth more for each place in the group: then no group is unanimous."""
    from rftlab.kernels.writing import paid

    correct = paid(task, "correct")

    def kernel_reward(prompts, completions, *, answer=None, problem=None, **columns):
        known = {p.answer: p for p in questions(task, full)}
        values = correct(prompts, completions, problem=problem or [known[a] for a in answer], step=columns.get("step") or 0)
        return [None if v is None else v + full * 0.001 * (i % GROUP) for i, v in enumerate(values)]

    return kernel_reward


def our_step(gate, full=False):
    """The steps of `rftlab.grpo.train`, called as `rftlab.kernel_grpo.rft` calls it."""
    import rftlab
    from rftlab import advantages, bench, grpo
    from rftlab.kernels import KernelGrader
    from rftlab.kernels.writing import KernelWriting

    policy = rftlab.load_policy("smollm2", lora=warm_folder(), raw=True)
    task = KernelWriting(KernelGrader())
    kind = {"max_new_tokens": FULL_TOKENS, "prompts_per_step": FULL_PROMPTS} if full else {
        "max_new_tokens": NEW_TOKENS, "prompts_per_step": PROMPTS, "stop": task.stop(policy), "temperature": 1.0,
        "advantage_fn": partial(advantages.most_different, keep=4)}

    def next_step(metrics):
        gate.end()
        gate.begin()

    gate.begin()
    grpo.train(bench.Endless.of(policy) if full else policy, task, questions(task, full), steps=10**6, group_size=GROUP,
               reward_fn=reward_for(task, full), lr=1e-5, prompts_per_pass=2, on_step=next_step, **kind)


def trl_step(gate, full=False):
    """The same steps by TRL, in its fastest setting here: no checkpointing, in batches of 32 completions."""
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from rftlab import machine, models
    from rftlab.kernels import KernelGrader
    from rftlab.kernels.writing import KernelWriting
    from rftlab.trl_head import use_plain_head_without_gpu

    class StepGate(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            gate.begin()

        def on_step_end(self, *args, **kwargs):
            gate.end()

    use_plain_head_without_gpu()
    folder, task = models.smollm2_folder(), KernelWriting(KernelGrader())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, machine.fast_dtype()))
    model = PeftModel.from_pretrained(model, warm_folder(), is_trainable=True)
    problems = questions(task, full)
    data = Dataset.from_list([{"prompt": p.prompt, "answer": p.answer} for p in problems])
    kind = {"max_completion_length": FULL_TOKENS, "generation_kwargs": {"min_new_tokens": FULL_TOKENS}} if full else {
        "max_completion_length": NEW_TOKENS, "temperature": 1.0}
    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=machine.device() == "cpu", bf16=False, learning_rate=1e-5, max_steps=10**6,
        per_device_train_batch_size=32, gradient_accumulation_steps=len(problems) * GROUP // 32, num_generations=GROUP,
        gradient_checkpointing=False, disable_tqdm=True, report_to="none", save_strategy="no", logging_strategy="no",
        dataloader_pin_memory=False, **kind)
    GRPOTrainer(model, reward_for(task, full), args, data, processing_class=AutoTokenizer.from_pretrained(folder), callbacks=[StepGate()]).train()


def bench_kernel_step(runs=3):
    """Rows kernel_step_seconds and kernel_step_full_length; the limit of the second counts multiplications only, as that of `bench step` does."""
    from rftlab import bench

    warm_folder()
    (ours, _), (theirs, _) = bench.interleaved([our_step, trl_step], runs)
    (ours_full, _), (theirs_full, _) = bench.interleaved([partial(our_step, full=True), partial(trl_step, full=True)], runs)
    return [bench.row("kernel_step_seconds", "s", ours, "trl GRPOTrainer", theirs, None, runs, False),
            bench.row("kernel_step_full_length", "s", ours_full, "trl GRPOTrainer", theirs_full, limit(), runs, False)]


def limit() -> float:
    """Seconds that the multiplications of one step of full length take at the measured rate."""
    from rftlab import bench, load_policy
    from rftlab.kernels import KernelGrader
    from rftlab.kernels.writing import KernelWriting

    policy = load_policy("smollm2", raw=True)
    tokens = policy.encode([p.prompt for p in questions(KernelWriting(KernelGrader()), full=True)])[1].sum().item()
    return bench.multiplications(policy, tokens, FULL_PROMPTS * GROUP, FULL_TOKENS)
