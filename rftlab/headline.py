"""The headline run: SmolLM2-135M learns two-digit addition by reinforcement, from 100 prompts, on a CPU.

    python -m rftlab experiment headline              every run that has no record yet
    python -m rftlab experiment headline --seeds 0    one seed of each arm

Arms: rft (the verifier pays), rft-random (a coin pays: the control), rft-format and rft-format-heavy (the verifier plus a
careless bonus of 0.2 or 1.0 for any bare number). Each writes data/results/headline/<arm>-seed<k>.json; a run that was
killed goes on from its checkpoint in build/.
"""
from pathlib import Path

from rftlab import records

TRAIN, TEST, MAX_NEW_TOKENS = 100, 200, 16
TITLES = {"rft": "the verifier", "rft-random": "a coin (control)", "rft-format": "the verifier + 0.2 for any bare number",
          "rft-format-heavy": "the verifier + 1.0 for any bare number"}
STEPS = {"rft": 60, "rft-random": 30, "rft-format": 40, "rft-format-heavy": 40}


def reward_for(arm, task, seed):
    from rftlab import rewards

    if arm == "rft-random":
        return rewards.random_reward(seed, probability=0.2)
    if arm.startswith("rft-format"):
        return rewards.combine({rewards.verifier(task): 1.0, rewards.number_only: 1.0 if arm.endswith("heavy") else 0.2})
    return rewards.verifier(task)


def run(point, settings) -> records.RunRecord:
    """Train one arm with one seed (a point of data/experiments/headline.toml)."""
    import rftlab

    arm, seed, task = point["arm"], point["seed"], rftlab.load_task("arithmetic")
    policy = rftlab.load_policy("smollm2", lora=rftlab.LoraSpec(rank=16, alpha=32), seed=seed)
    test = task.test(TEST)
    checkpoint = Path("build") / "checkpoints" / f"headline-{arm}-seed{seed}.pt"
    record = rftlab.grpo.train(
        policy, task, task.train(TRAIN, seed=seed), steps=STEPS[arm], seed=seed, prompts_per_step=8, group_size=8,
        max_new_tokens=MAX_NEW_TOKENS, lr=4e-4, reward_fn=reward_for(arm, task, seed), eval_problems=test, eval_every=20,
        checkpoint=checkpoint, checkpoint_every=10, experiment="headline", arm=arm)
    record.sample(policy, test[:8], MAX_NEW_TOKENS)
    checkpoint.unlink(missing_ok=True)
    return record


def summary(runs) -> str:
    """What came out, in markdown: one line an arm, means over seeds with their intervals, and what it cost."""
    from rftlab.evaluate import bootstrap

    arms, lines = {}, []
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    lines = ["| reward | seeds | steps | accuracy before | accuracy after, 95 % interval over seeds | of each seed | minutes a seed |",
             "|---|---|---|---|---|---|---|"]
    for arm in [a for a in STEPS if a in arms]:
        several = sorted(arms[arm], key=lambda r: r.seed)
        after, before = ([r.final[k]["mean"] for r in several] for k in ("accuracy", "accuracy_before"))
        estimate = bootstrap(after)
        minutes = sum(r.seconds for r in several) / len(several) / 60
        lines.append(f"| `{arm}`: {TITLES[arm]} | {len(several)} | {STEPS[arm]} | {sum(before) / len(before):.3f} | "
                     f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}] | "
                     f"{', '.join(f'{v:.3f}' for v in after)} | {minutes:.0f} |")
    n = runs[0].final["accuracy"]["n"]
    return "\n".join(lines) + (f"\n\n{n} held-out problems, greedy decoding, {TRAIN} training prompts, {runs[0].device}, "
                               f"{runs[0].config['dtype']}.")


def draw(runs, path) -> None:
    """The README's picture: held-out accuracy along training, one line an arm, the range over seeds as a band."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from rftlab import plots

    plots.style()
    for run in runs:  # the evaluation before training is step 0 of the curve
        run.metrics.insert(0, {"step": 0, "accuracy": run.final["accuracy_before"]["mean"]})
        run.metrics[-1]["accuracy"] = run.final["accuracy"]["mean"]
    ax = plots.learning_curve(runs, "accuracy", title="SmolLM2 learns to add, if the reward says the right thing")
    ax.set_ylim(0, 1)
    ax.figure.set_size_inches(8, 4)
    plt.savefig(path, dpi=110, bbox_inches="tight")


def publish(root=None) -> None:
    """Write the picture and the table of README.md anew from the records of a clone."""
    root = Path(root or records.results_folder().parents[1])
    runs = records.load_all("headline", root / "data" / "results")
    records.publish("headline", summary(runs), root / "README.md")
    draw(runs, root / "data" / "results" / "headline.png")
