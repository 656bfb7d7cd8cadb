"""What does each reward buy? Accuracy, format, brevity and diversity, alone and mixed, on the tiny model.

    python -m rftlab experiment reward-mix              every run that has no record yet
    python -m rftlab experiment reward-mix --seeds 0    one seed of each arm

The deck says that DeepSeek-R1 was paid for accuracy, efficiency and creativity. It was paid for accuracy and format
(DeepSeek-AI 2025, arXiv 2501.12948, section 2.2.2). Here all four are paid in turn: brevity stands for efficiency, diversity
for creativity, and a coin is the control. Every arm measures all four on what it samples, whether it is paid for them or
not. Each run writes data/results/reward-mix/<arm>-seed<k>.json.
"""
from rftlab import records

TRAIN, TEST, STEPS, MAX_NEW_TOKENS, LR = 100, 200, 60, 40, 3e-4
SHORT = 20  # characters; brevity pays in full up to here: room for an estimate, not for a worked solution
BONUS = 0.2  # weight of everything that is not the verifier
PAID = {  # what each arm pays for
    "accuracy": {"verifier": 1.0},
    "accuracy-format": {"verifier": 1.0, "think_format": BONUS},
    "accuracy-brevity": {"verifier": 1.0, "brevity": BONUS},
    "accuracy-diversity": {"verifier": 1.0, "diversity": BONUS},
    "all-four": {"verifier": 1.0, "think_format": BONUS, "brevity": BONUS, "diversity": BONUS},
    "format-only": {"think_format": 1.0},
    "rft-random": {"random_reward": 1.0},
}


def reward_for(arm, task, seed):
    """The arm's reward: every part is computed, so that its mean is logged, and the unpaid ones have weight 0."""
    from rftlab import rewards

    parts = {"verifier": rewards.verifier(task), "think_format": rewards.think_format, "brevity": rewards.brevity(SHORT),
             "diversity": rewards.diversity}
    if arm == "rft-random":
        parts["random_reward"] = rewards.random_reward(seed, probability=0.2)
    return rewards.combine({part: PAID[arm].get(name, 0.0) for name, part in parts.items()})


def measure(policy, problems) -> dict:
    """Share in the asked format, and mean length in tokens, of greedy completions: name -> {mean, low, high, n}."""
    from rftlab import evaluate, rewards
    from rftlab.rollout import rollout

    prompts = [p.prompt for p in problems]
    r = rollout(policy, prompts, group_size=1, max_new_tokens=MAX_NEW_TOKENS, temperature=0.0)
    lengths = r.completion_mask.sum(1).tolist()
    return {"format": evaluate.bootstrap(rewards.think_format(prompts, r.texts)).to_dict(),
            "length": evaluate.bootstrap(lengths, bounds=(0, MAX_NEW_TOKENS)).to_dict()}


def run(point, settings) -> records.RunRecord:
    """Train one arm with one seed (a point of data/experiments/reward-mix.toml)."""
    import rftlab
    from rftlab.tasks import thinking

    arm, seed = point["arm"], point["seed"]
    task, policy = rftlab.load_task("arithmetic"), rftlab.load_policy("tiny", seed=seed)
    problems = [thinking(p) for p in task.train(TRAIN, seed=seed)]
    test = [thinking(p) for p in task.test(TEST)]
    before = measure(policy, test)
    record = rftlab.grpo.train(policy, task, problems, steps=settings.get("steps", STEPS), seed=seed,
                               max_new_tokens=MAX_NEW_TOKENS, lr=LR, reward_fn=reward_for(arm, task, seed),
                               eval_problems=test, eval_every=20, experiment="reward-mix", arm=arm)
    record.final.update({f"{name}_before": value for name, value in before.items()}, **measure(policy, test))
    record.sample(policy, test[:4], MAX_NEW_TOKENS)
    return record
