"""The headline run: SmolLM2-135M learns two-digit addition by reinforcement, from 100 prompts, on a CPU.

    python -m rftlab experiment headline              every run that has no record yet
    python -m rftlab experiment headline --seeds 0    one seed of each arm

Arms: rft (the verifier pays), rft-random (a coin pays: the control), rft-format (the verifier plus a careless bonus for
any bare number: the collapse). Each writes data/results/headline/<arm>-seed<k>.json; a run that was killed goes on from its
checkpoint in build/.
"""
from pathlib import Path

from rftlab import records

SEEDS = (0, 1, 2)
TRAIN, TEST, MAX_NEW_TOKENS = 100, 200, 16
STEPS = {"rft": 60, "rft-random": 30, "rft-format": 40}


def reward_for(arm, task, seed):
    from rftlab import rewards

    if arm == "rft-random":
        return rewards.random_reward(seed, probability=0.2)
    if arm == "rft-format":
        return rewards.combine({rewards.verifier(task): 1.0, rewards.number_only: 0.2})
    return rewards.verifier(task)


def run_one(arm, seed, folder, steps=None) -> records.RunRecord:
    """Train one arm with one seed, save its record, return it."""
    import rftlab

    task = rftlab.load_task("arithmetic")
    policy = rftlab.load_policy("smollm2", lora=rftlab.LoraSpec(rank=16, alpha=32), seed=seed)
    test = task.test(TEST)
    checkpoint = Path("build") / "checkpoints" / f"headline-{arm}-seed{seed}.pt"
    record = rftlab.grpo.train(
        policy, task, task.train(TRAIN, seed=seed), steps=steps or STEPS[arm], seed=seed, prompts_per_step=8, group_size=8,
        max_new_tokens=MAX_NEW_TOKENS, lr=4e-4, reward_fn=reward_for(arm, task, seed), eval_problems=test, eval_every=20,
        checkpoint=checkpoint, checkpoint_every=10, experiment="headline", arm=arm)
    shown = test[:8]
    record.notes["samples"] = [{"prompt": p.prompt, "answer": p.answer, "completion": c}
                               for p, c in zip(shown, policy.generate([p.prompt for p in shown], MAX_NEW_TOKENS))]
    record.save(Path(folder) / f"{arm}-seed{seed}.json")
    checkpoint.unlink(missing_ok=True)
    return record


def run(seeds=SEEDS, arms=tuple(STEPS), folder=None) -> None:
    """Every run of the grid that has no record yet."""
    folder = Path(folder or records.results_folder() / "headline")
    for seed in seeds:
        for arm in arms:
            if arm not in STEPS:
                raise ValueError(f"no arm {arm!r} in this experiment; the arms are {', '.join(STEPS)}")
            if (folder / f"{arm}-seed{seed}.json").is_file():
                print(f"{arm} seed {seed}: recorded already")
                continue
            record = run_one(arm, seed, folder)
            before, after = record.final["accuracy_before"], record.final["accuracy"]
            print(f"{arm} seed {seed}: held-out accuracy {before['mean']:.2f} -> {after['mean']:.2f} "
                  f"in {record.seconds / 60:.0f} minutes", flush=True)
