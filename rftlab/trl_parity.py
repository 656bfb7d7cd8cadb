"""Do `rftlab.grpo` and TRL's GRPOTrainer learn alike? The same model, problems, reward and settings; only the draws differ.

    python -m rftlab experiment trl-parity

Loss and gradient on one rollout are equal to the last digits (tests/test_hub_training.py); these runs ask about whole trainings, where
each draws its own prompts and completions: the curves of five seeds should overlap, not coincide.
"""
from rftlab import records

TRAIN, TEST = 100, 200


def run(point, settings) -> records.RunRecord:
    """Train one arm, "ours" or "trl", with one seed (a point of data/experiments/trl-parity.toml)."""
    import rftlab

    task = rftlab.load_task("arithmetic")
    return {"ours": _ours, "trl": _trl}[point["arm"]](task, task.train(TRAIN, seed=point["seed"]), task.test(TEST), point["seed"], settings)


def _ours(task, problems, test, seed, settings):
    import rftlab

    return rftlab.grpo.train(rftlab.load_policy("tiny", seed=seed), task, problems, seed=seed, eval_problems=test, experiment="trl-parity",
                             arm="ours", **settings)


def _trl(task, problems, test, seed, settings):
    import os
    import tempfile
    import time

    from rftlab import evaluate, hub_training, monitor, rewards

    os.environ["RFTLAB_BACKEND"] = "transformers"
    policy = hub_training.load("tiny", "full", seed=seed)
    record = records.new("trl-parity", "trl", task.name, "tiny", len(problems), seed, {**settings, "trainer": "trl.GRPOTrainer"})
    longest = settings["max_new_tokens"]
    record.final["accuracy_before"] = evaluate.accuracy(policy, task, test, longest).to_dict()
    watch = monitor.Monitor(on_alarm=None)
    with tempfile.TemporaryDirectory() as folder:
        trainer = hub_training.grpo_trainer(policy, rewards.verifier(task), problems, seed=seed, output=folder,
                                            callbacks=[watch.callback()], **settings)
        start = time.perf_counter()
        trainer.train()
        record.seconds = time.perf_counter() - start
    record.metrics = watch.metrics
    record.final["accuracy"] = evaluate.accuracy(policy, task, test, longest).to_dict()
    return record
