"""RFT against SFT as data shrinks: nine arms on the same prompts, measured alike. Axes, sizes and settings are in
data/experiments/data-size.toml, fixed before the runs.

    base            no training
    few-shot        as many of the examples as the model reads well, with worked solutions, as earlier turns of the conversation
    sft-answers     imitate the final answers
    sft-solutions   imitate the worked solutions
    rft             GRPO, paid by the verifier
    rft-random      GRPO, paid by a coin: the control
    rft-format      GRPO, paid for anything that has the form of an answer: the control for format
    rejection       sample, keep the model's own right completions, imitate those (one round)
    sft-rft         sft-solutions, then rft

Every arm that trains is evaluated on the same validation problems every few steps and goes back to the best weights seen,
those before training included. Test problems are looked at once, at the end.
"""
import functools
import json
import time
from dataclasses import replace

from rftlab import records

KEPT = ("step", "phase", "accuracy", "reward", "zero_variance", "entropy", "length", "loss", "grad_norm", "seconds_rollout",
        "seconds_reward", "seconds_update")  # of the metrics of a step, so that a thousand records stay small
LARGER = {"arithmetic": {"level": 4}, "countdown": {"largest": 40, "largest_target": 200}, "codebook": {"letters": 6}}


def run(point, settings) -> records.RunRecord:
    """One run: a point of the grid (arm, task, model, size, seed; also rate, noise, steps) -> its record."""
    import rftlab

    s = {**settings, **{k: point[k] for k in ("steps", "noise") if k in point}}
    if "rate" in point:  # tuning: one learning rate for whatever this arm trains with
        s.update(lr=point["rate"], sft_lr=point["rate"])
    task = rftlab.load_task(point["task"])
    policy = load(point["model"], s, point["seed"])
    problems = spoil(task.train(point["size"], seed=point["seed"]), s.get("noise", 0), point["seed"])
    common = {"seed": point["seed"], "max_new_tokens": s["max_new_tokens"], "eval_problems": task.validation(s["validation"]),
              "patience": s.get("patience"), "experiment": "data-size", "arm": point["arm"]}
    record = ARMS[point["arm"]](policy, task, problems, s, common, point)
    record.size = point["size"]
    record.config.update({k: v for k, v in point.items() if k not in ("arm", "task", "model", "size", "seed")})
    record.metrics = [{k: _short(m[k]) for k in KEPT if m.get(k) is not None} for m in record.metrics]
    shots = examples(problems[:s["shots"]]) if point["arm"] == "few-shot" else []
    record.final = {**{f"{k}_before": v for k, v in before(point["model"], point["task"], json.dumps(s, sort_keys=True)).items()},
                    **measure(policy, task, s, shots)}
    if record.metrics:
        record.final["train_accuracy"] = estimate(task.reward(t, p) for t, p in zip(
            policy.generate([p.prompt for p in problems[:100]], s["max_new_tokens"]), problems[:100]))
    record.sample(policy, [ask(p, shots) for p in task.test(3)], s["max_new_tokens"])
    return record


def load(model, s, seed=0):
    """The policy: all weights train, or adapters of rank s["rank"], which change nothing before the first step."""
    import rftlab

    spec = rftlab.LoraSpec(rank=s["rank"], alpha=2 * s["rank"]) if s.get("rank") else None
    return rftlab.load_policy(model, lora=spec, seed=seed)


# --- the arms: (policy, task, problems, settings, common arguments, point) -> record ------------------------------------

def untrained(policy, task, problems, s, common, point):
    return records.new("data-size", point["arm"], task.name, policy.name, len(problems), point["seed"], dict(s))


def sft(target):
    def arm(policy, task, problems, s, common, point):
        from rftlab import sft as module

        return module.train(policy, task, problems, steps=s["sft_steps"], lr=s["sft_lr"], target=target,
                            eval_every=s["sft_eval_every"], **common)
    return arm


def rft(reward=None):
    def arm(policy, task, problems, s, common, point):
        from rftlab import grpo

        paid = reward and reward(task, point["seed"])
        return grpo.train(policy, task, problems, steps=s["steps"], lr=s["lr"], reward_fn=paid, eval_every=s["eval_every"],
                          group_size=s["group_size"], prompts_per_step=s["prompts_per_step"], **common)
    return arm


def coin(task, seed):
    from rftlab import rewards

    return rewards.random_reward(seed, probability=0.2)


def form(task, seed):
    """Pay whatever has the form of an answer, right or wrong."""
    def well_formed(prompts, completions, *, problem, **columns):
        return [float(task.well_formed(text, one)) for text, one in zip(completions, problem, strict=True)]

    return well_formed


def rejection(policy, task, problems, s, common, point):
    """As many samples as rft may draw in all its steps, at most 64 a problem; the right ones, each text once, are imitated."""
    from rftlab.rollout import rollout

    start = time.perf_counter()
    budget = s["steps"] * s["prompts_per_step"] * s["group_size"]
    each = max(2, min(64, budget // len(problems)))
    r = rollout(policy, [p.prompt for p in problems], each, s["max_new_tokens"], seed=point["seed"])
    own = {(i // each, text.strip()) for i, text in enumerate(r.texts) if task.reward(text, problems[i // each]) == 1.0}
    pairs = [replace(problems[i], solution=text) for i, text in sorted(own)]
    seconds = time.perf_counter() - start
    record = sft("solution")(policy, task, pairs, s, common, point) if pairs else untrained(policy, task, problems, s, common, point)
    record.seconds += seconds
    record.notes.update(seconds_sampling=seconds, samples_drawn=len(r.texts), samples_kept=len(pairs), tokens_sampled=r.tokens)
    return record


def sft_rft(policy, task, problems, s, common, point):
    first = sft("solution")(policy, task, problems, s, common, point)
    second = rft()(policy, task, problems, s, common, point)
    done = len(first.metrics)
    second.metrics = ([{**m, "phase": "sft"} for m in first.metrics]
                      + [{**m, "phase": "rft", "step": m["step"] + done} for m in second.metrics])
    second.seconds += first.seconds
    return second


ARMS = {"base": untrained, "few-shot": untrained, "sft-answers": sft("answer"), "sft-solutions": sft("solution"), "rft": rft(),
        "rft-random": rft(coin), "rft-format": rft(form), "rejection": rejection, "sft-rft": sft_rft}


# --- what is measured ---------------------------------------------------------------------------------------------------

def measure(policy, task, s, shots=()) -> dict:
    """Everything that the grid file promises, on problems that no arm has seen: name -> {mean, low, high, n}."""
    import rftlab
    from rftlab import evaluate

    def greedy(problems):
        return policy.generate([ask(p, shots).prompt for p in problems], s["max_new_tokens"])

    test = task.test(s["test"])
    texts = greedy(test)
    wide = rftlab.load_task(task.name, **LARGER[task.name])
    far = wide.test(s["larger"])
    rates = evaluate.pass_rates(policy, task, [ask(p, shots) for p in test[:s["pass_problems"]]], s["pass_samples"],
                                (1, s["pass_samples"]), max_new_tokens=s["max_new_tokens"])
    return {"accuracy": estimate(task.reward(t, p) for t, p in zip(texts, test)),
            "well_formed": estimate(task.well_formed(t, p) for t, p in zip(texts, test)),
            "larger": estimate(wide.reward(t, p) for t, p in zip(greedy(far), far)),
            "pass@1": rates[1].to_dict(), f"pass@{s['pass_samples']}": rates[s["pass_samples"]].to_dict(),
            "general_loss": evaluate.bootstrap(text_losses(policy, general_text(policy.name)), bounds=(0, 20)).to_dict()}


@functools.lru_cache(maxsize=8)
def before(model, task_name, settings) -> dict:
    """`measure` of the untrained policy, once for each process."""
    import rftlab

    s = json.loads(settings)
    return measure(load(model, s), rftlab.load_task(task_name), s)


def estimate(values) -> dict:
    from rftlab.evaluate import bootstrap

    return bootstrap([float(v) for v in values]).to_dict()


def general_text(model) -> list[str]:
    """Text that no task trains on: unread stories for tiny, which knows no other English; else data/tasks/passages.txt."""
    from rftlab import corpus

    if model == "tiny":
        return corpus.general_text(60, split="test")
    return (records.results_folder().parent / "tasks" / "passages.txt").read_text().strip().split("\n\n")


def text_losses(policy, texts) -> list[float]:
    """Mean negative log-likelihood of each text, in nats a token."""
    import torch
    from torch.nn import functional as F

    batch = policy.tokenizer(texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
    ids, mask = batch["input_ids"].to(policy.model.device), batch["attention_mask"].to(policy.model.device)
    with torch.no_grad():
        logits = policy.model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    losses = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none") * mask[:, 1:]
    return (losses.sum(1) / mask[:, 1:].sum(1)).tolist()


# --- the data -----------------------------------------------------------------------------------------------------------

def examples(problems) -> list[dict]:
    """The problems as turns of a conversation, answered by their worked solutions."""
    return [turn for p in problems for turn in ({"role": "user", "content": p.prompt},
                                                        {"role": "assistant", "content": p.solution})]


def ask(problem, shots):
    """The problem, asked after the examples."""
    return replace(problem, prompt=[*shots, {"role": "user", "content": problem.prompt}]) if shots else problem


def spoil(problems, share, seed):
    """The problems with this share of wrong labels: another problem's answer and solution in place of their own."""
    import random

    if not share:
        return problems
    rng, out = random.Random(f"noise {seed}"), list(problems)
    for i in rng.sample(range(len(out)), round(share * len(out))):
        donor = rng.choice([p for p in problems if p.answer != problems[i].answer])
        wrong = problems[i].solution.removesuffix(problems[i].answer) + donor.answer
        out[i] = replace(problems[i], answer=donor.answer, solution=wrong)
    return out


def _short(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value
