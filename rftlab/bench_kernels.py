"""One GRPO step of the kernel experiment beside TRL's GRPOTrainer with the same reward: `python -m rftlab bench kernel-step`.

SmolLM2 after a short warm-up on the 13 examples, 4 prompts x 8 completions x 96 new tokens, LoRA rank 16, graded by the kernel
grader with two workers. Both write completions of full length, in which everything after the kernel's body is cut off. The prompts
are in SmolLM2's raw format for both.
"""
import tempfile
from pathlib import Path

PROMPTS, GROUP, NEW_TOKENS, RANK, WARM_STEPS = 4, 8, 96, 16, 16


def warm_folder() -> Path:
    """The adapter after the warm-up, in PEFT's format; made at the first call, about a minute."""
    import rftlab
    from rftlab import machine, sft
    from rftlab.kernels import KernelGrader
    from rftlab.kernels.writing import KernelWriting

    folder = machine.cache_dir() / f"kernel-step-{RANK}-{WARM_STEPS}"
    if not (folder / "adapter_model.safetensors").is_file():
        policy = rftlab.load_policy("smollm2", lora=rftlab.LoraSpec(RANK, 2 * RANK), raw=True)
        task = KernelWriting(KernelGrader())  # grades nothing here, and so starts no process
        sft.train(policy, task, task.labelled(), steps=WARM_STEPS, prompts_per_step=7, lr=4e-4, target="solution", prompts_per_pass=4)
        policy.save(folder)
    return folder


def questions(task):
    return task.fresh(PROMPTS)


def reward_for(task):
    """The ladder, and a thousandth more for each place in the group: no group is unanimous, both compute every gradient."""
    from rftlab.kernels.writing import paid

    ladder = paid(task)

    def kernel_reward(prompts, completions, *, answer=None, problem=None, **columns):
        known = {p.answer: p for p in questions(task)}
        values = ladder(prompts, completions, problem=problem or [known[a] for a in answer], step=columns.get("step") or 0)
        return [None if v is None else v + 0.001 * (i % GROUP) for i, v in enumerate(values)]

    return kernel_reward


def our_step(gate):
    """The steps of `rftlab.grpo.train`."""
    import rftlab
    from rftlab import bench, grpo
    from rftlab.kernels import KernelGrader
    from rftlab.kernels.writing import KernelWriting

    policy = bench.Endless.of(rftlab.load_policy("smollm2", lora=warm_folder(), raw=True))
    task = KernelWriting(KernelGrader())

    def next_step(metrics):
        gate.end()
        gate.begin()

    gate.begin()
    grpo.train(policy, task, questions(task), steps=10**6, prompts_per_step=PROMPTS, group_size=GROUP, max_new_tokens=NEW_TOKENS,
               reward_fn=reward_for(task), lr=1e-5, prompts_per_pass=2, on_step=next_step)


def trl_step(gate):
    """The same steps by TRL, in its fastest setting here: one batch, no checkpointing."""
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
    data = Dataset.from_list([{"prompt": p.prompt, "answer": p.answer} for p in questions(task)])
    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=machine.device() == "cpu", bf16=False, learning_rate=1e-5, max_steps=10**6,
        per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP, max_completion_length=NEW_TOKENS,
        gradient_checkpointing=False, generation_kwargs={"min_new_tokens": NEW_TOKENS}, disable_tqdm=True, report_to="none",
        save_strategy="no", logging_strategy="no", dataloader_pin_memory=False)
    GRPOTrainer(model, reward_for(task), args, data, processing_class=AutoTokenizer.from_pretrained(folder), callbacks=[StepGate()]).train()


def bench_kernel_step(runs=3):
    """Row kernel_step_seconds; the limit counts multiplications only, as that of `bench step` does."""
    from rftlab import bench

    warm_folder()
    (ours, _), (theirs, _) = bench.interleaved([our_step, trl_step], runs)
    return [bench.row("kernel_step_seconds", "s", ours, "trl GRPOTrainer", theirs, limit(), runs, False)]


def limit() -> float:
    """Seconds that the multiplications of one step take at the measured rate."""
    from rftlab import bench, load_policy
    from rftlab.kernels import KernelGrader
    from rftlab.kernels.writing import KernelWriting

    policy = load_policy("smollm2", raw=True)
    tokens = policy.encode([p.prompt for p in questions(KernelWriting(KernelGrader()))])[1].sum().item()
    return bench.multiplications(policy, tokens, PROMPTS * GROUP, NEW_TOKENS)
