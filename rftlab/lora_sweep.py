"""What does each choice of an adapter cost in reinforcement fine-tuning? Rank, layers, learning rate, dropout and alpha, one at
a time around a centre, and all weights for comparison.

    python -m rftlab experiment lora              every run that has no record yet
    python -m rftlab experiment lora --seeds 0    one seed of each setting

The points are in data/experiments/lora.toml. Accuracy is measured on problems that nobody trained on, train_accuracy on those of
the run, and general_loss (nats a token) on stories that no task is about: what the model forgets.
"""
import functools

from rftlab import records

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")  # what the deck calls the key-value attention layers


def spec_of(point):
    """The LoraSpec of a point; None where all weights train. `alpha` is counted in ranks."""
    from rftlab.lora import ALL_LINEAR, LoraSpec

    if point["targets"] == "full":
        return None
    targets = {"attention": ATTENTION, "all": ALL_LINEAR}[point["targets"]]
    return LoraSpec(point["rank"], point["alpha"] * point["rank"], targets, point["dropout"])


def run(point, settings) -> records.RunRecord:
    """Train with one setting and one seed. settings: level, steps, max_new_tokens, test."""
    import rftlab
    from rftlab import rewards

    task = rftlab.load_task("arithmetic", level=settings["level"])
    policy = rftlab.load_policy("tiny", lora=spec_of(point), seed=point["seed"])
    problems = task.train(point["size"], seed=point["seed"])
    coin = rewards.random_reward(point["seed"], probability=0.2) if point["arm"] == "rft-random" else None
    record = rftlab.grpo.train(policy, task, problems, steps=settings["steps"], seed=point["seed"], lr=point["rate"], reward_fn=coin,
                               max_new_tokens=settings["max_new_tokens"], experiment="lora", arm=point["arm"])
    record.config.update({k: point[k] for k in ("targets", "rank", "alpha", "dropout", "rate")},
                         trained=sum(p.numel() for p in policy.parameters))
    before = measure_base(settings["level"], settings["test"], settings["max_new_tokens"])
    record.final = {**{f"{k}_before": v for k, v in before.items()}, **measure(policy, task, settings["test"], settings["max_new_tokens"]),
                    "train_accuracy": accuracy(policy, task, problems, settings["max_new_tokens"])}
    record.sample(policy, task.test(2), settings["max_new_tokens"])
    return record


@functools.lru_cache(maxsize=2)
def measure_base(level, test, max_new_tokens) -> dict:
    """`measure` of the untrained model, once a process."""
    import rftlab

    return measure(rftlab.load_policy("tiny"), rftlab.load_task("arithmetic", level=level), test, max_new_tokens)


def measure(policy, task, test, max_new_tokens) -> dict:
    """name -> {mean, low, high, n}: held-out accuracy, and the loss on text that no task is about."""
    from rftlab import evaluate
    from rftlab.data_size import general_text, text_losses

    losses = text_losses(policy, general_text("tiny"))
    return {"accuracy": accuracy(policy, task, task.test(test), max_new_tokens),
            "general_loss": evaluate.bootstrap(losses, bounds=(0, 20)).to_dict()}


def accuracy(policy, task, problems, max_new_tokens) -> dict:
    from rftlab import evaluate

    return evaluate.accuracy(policy, task, problems, max_new_tokens=max_new_tokens).to_dict()
