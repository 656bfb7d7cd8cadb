"""Small made-up records of data-size whose truth is known."""
from rftlab.records import RunRecord

N = {"accuracy": 200, "well_formed": 200, "larger": 100, "pass@1": 16, "pass@64": 16, "train_accuracy": 100, "general_loss": 60}


def entry(name, value):
    return {"mean": value, "low": max(0.0, value - 0.1), "high": value + 0.1, "n": N[name]}


def run(arm, size, seed, accuracy, before=0.2, task="arithmetic", model="tiny", validation=(), seconds=1.0, noise=None, **final):
    """One run. validation: accuracies after each step; seconds: of each step; final: other metrics, `x_before` too."""
    sampled = {"seconds_rollout": seconds / 2, "seconds_reward": 0.0} if arm.startswith("rft") else {}
    metrics = [{"step": i + 1, "accuracy": v, "length": 10.0, **sampled, "seconds_update": seconds / (2 if sampled else 1)}
               for i, v in enumerate(validation)]
    values = {"accuracy": accuracy, "accuracy_before": before, "well_formed": 1.0, "well_formed_before": 1.0, "larger": 0.0,
              "larger_before": 0.0, "pass@1": accuracy, "pass@1_before": before, "pass@64": 1.0, "pass@64_before": 1.0,
              "train_accuracy": accuracy, "general_loss": 0.4, "general_loss_before": 0.4, **final}
    config = {"prompts_per_step": 8, "group_size": 8} | ({"noise": noise} if noise is not None else {})
    return RunRecord("data-size", arm, task, model, size, seed, config, device="a machine", seconds=seconds * len(metrics), metrics=metrics,
                     final={k: entry(k.removesuffix("_before"), v) for k, v in values.items()})


def several(arm, size, accuracies, **options):
    """One run a seed, seeds 0, 1, ..."""
    return [run(arm, size, seed, accuracy, **options) for seed, accuracy in enumerate(accuracies)]
