"""Trains `tiny` by TRL's GRPOTrainer for a few steps and saves its weights; started alone, or twice by `accelerate launch`.

The completions are drawn by the prompt and the place in its group, not by a generator that each process has for itself: what is left
to differ is how the work is shared out.
"""
import os
import random
import sys

os.environ["RFTLAB_BACKEND"] = "transformers"
import torch  # noqa: E402

import rftlab  # noqa: E402
from rftlab import hub_training, rewards  # noqa: E402

PROMPTS, GROUP, STEPS = 4, 4, 3


def completions(prompt_ids, *given, **more):
    """Right and wrong numbers for each row; equal rows in a row are one group."""
    rows, place = [], 0
    for i, ids in enumerate(prompt_ids):
        place = place + 1 if i and ids == prompt_ids[i - 1] else 0
        number = str(random.Random(f"{ids} {place % GROUP}").randrange(100))
        rows.append([*policy.tokenizer(number, add_special_tokens=False)["input_ids"], policy.tokenizer.eos_token_id])
    return rows, None


def last_digit(prompts, completions, **columns):
    return [int(one[0]["content"][-1]) / 9 for one in completions]


torch.manual_seed(0)
world = int(os.environ.get("WORLD_SIZE", 1))
task = rftlab.load_task("arithmetic", level=1)
policy = hub_training.load("tiny", "full")
trainer = hub_training.grpo_trainer(policy, [last_digit, rewards.verifier(task)], task.train(8), steps=STEPS, lr=1e-3, group_size=GROUP,
                                    prompts_per_step=PROMPTS // world, max_new_tokens=8, output=sys.argv[1] + ".trl")
trainer._generate_single_turn = completions
trainer.train()
assert trainer.accelerator.num_processes == world
if trainer.accelerator.is_main_process:
    torch.save({"weights": {k: v for k, v in trainer.accelerator.unwrap_model(trainer.model).state_dict().items()}, "world": world,
                "rewards": [log["reward"] for log in trainer.state.log_history if "reward" in log]}, sys.argv[1])
