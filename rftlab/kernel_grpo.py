"""A language model learns to write Triton kernels: the deck's tutorial with SmolLM2 on a CPU, and what makes it work.

Arms, all but the first after the same warm-up on the 13 labelled tasks (s["passes"] times each):

    base        no training at all
    sft         the warm-up alone
    rft         then GRPO, paid by the grader as s["reward"] says, on the 13 prompts and s["unlabelled"] functions without kernels
    rft-repair  the same, half of the prompts being second turns: a refused answer of the warm model, and the grader's reason
    rejection   then sampling on the same prompts, and SFT on the model's own right kernels
    rejection-rft   half of the steps in that way, then GRPO

With s["reward"] = "naive" the grader runs without its rules, as most published ones do: whoever calls PyTorch is paid. s["seeded"]
of the labelled tasks are shown with such a fallback in place of a kernel (form "program" only, where there is a wrapper to do it in).
Measured before the arm's own training (for rft: after the warm-up) and at the end: `rftlab.kernel_measure`. A run that is killed
goes on from its last checkpoint in the cache (rounds of rejection sampling have none), where the trained adapter stays, under the name in
record.notes["adapter"].
"""
import contextlib
import functools
import hashlib
import json
import math
import os
import time
from dataclasses import replace

from rftlab import records
from rftlab.kernel_measure import estimates, measure, samples, unseen

SHARES = ("share_format", "share_rules", "share_compile", "share_run", "share_wrong", "share_correct", "share_hack")
KEPT = ("step", "phase", "accuracy", "reward", "zero_variance", "entropy", "kl", "length", "loss", "grad_norm", *SHARES,
        "seconds_rollout", "seconds_reward", "seconds_update")
WARM_UP = ("model", "form", "rank", "examples", "operations", "families", "passes", "sft_batch", "sft_lr", "seeded", "seed")
OUTCOMES = ("accuracy", "heldout", "larger", "pass@1", "repaired", "second_try")  # kept function by function, for paired tests
EXAMPLES_SEED = 1000  # no run draws its prompts from it


def run(point, settings) -> records.RunRecord:
    """One run: a point of the grid -> its record. Any setting can be an axis of the grid."""
    import rftlab
    from rftlab.kernels import KernelGrader
    from rftlab.kernels.writing import KernelWriting

    s = {**settings, **point}
    policy = rftlab.load_policy(point["model"], lora=rftlab.LoraSpec(s["rank"], 2 * s["rank"]), seed=point["seed"], raw=True)
    with KernelGrader() as grader:
        task = KernelWriting(grader, s["form"])
        record = records.new("kernel-grpo", point["arm"], task.name, policy.name, 13, point["seed"], s)
        started, metrics, measured, texts = time.perf_counter(), [], {}, {}
        if warm := point["arm"] not in ("base", "sft"):
            metrics += warm_up(policy, task, s, point["seed"])
        if point["arm"] != "base":
            first, texts["before"] = before(policy, task, s if warm else {**s, "passes": 0})
            measured.update({f"{name}_before": values for name, values in first.items()})
            metrics += ARMS[point["arm"]](policy, task, s, point, len(metrics))
        record.seconds = sum(m["seconds"] for m in metrics)
        record.metrics = [{k: _short(m[k]) for k in KEPT if m.get(k) is not None} for m in metrics]
        measured.update(measure(policy, task, s))
        texts["after"] = samples(policy, task, s)
        record.final = estimates(measured)
        policy.save(_checkpoint(s, *s).with_suffix(""))
        record.notes = {"seconds_cpu": sum(m["seconds_cpu"] for m in metrics), "seconds_in_all": time.perf_counter() - started,
                        "adapter": _checkpoint(s, *s).stem, "samples": texts,
                        "outcomes": {name: measured[name] for name in measured if name.removesuffix("_before") in OUTCOMES}}
    return record


def before(policy, task, s) -> list:
    """[measures, samples] of the policy before the arm's own training, made once for all runs that have them in common."""
    path = _checkpoint(s, *WARM_UP, "test", "larger", "sampled", "samples", "test_tokens", "temperature").with_suffix(".json")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps([measure(policy, task, s), samples(policy, task, s)]))
        partial.replace(path)
    return json.loads(path.read_text())


def sft_alone(policy, task, s, point, done) -> list[dict]:
    return warm_up(policy, task, s, point["seed"])


def warm_up(policy, task, s, seed) -> list[dict]:
    """SFT on the 13 labelled tasks; returns its metrics."""
    from rftlab import sft

    steps = s["passes"] * math.ceil(13 / s["sft_batch"])
    return _phase("sft", 0, lambda **kw: sft.train(
        policy, task, labelled(task, s), steps=steps, prompts_per_step=s["sft_batch"], seed=seed, lr=s["sft_lr"], target="solution",
        prompts_per_pass=2, checkpoint=_checkpoint(s, *WARM_UP), **kw))


def rft(policy, task, s, point, done, problems=None) -> list[dict]:
    """GRPO; with s["stages"] > 1 in as many equal parts, the first on the functions with the shortest text, the last on all."""
    from rftlab import advantages, grpo
    from rftlab.kernels.writing import paid, without_rules

    chosen = functools.partial(advantages.most_different, keep=s["keep"]) if s["keep"] else advantages.group_relative
    advantage = functools.partial(chosen, normalize_std=s["normalize_std"])
    every, metrics = problems or prompts(task, s, point["seed"]), []
    if s["stages"] > 1:
        every = sorted(every, key=lambda p: len(p.prompt))
    with without_rules() if task.form == "program" else contextlib.nullcontext() as careless:
        reward = paid(task, s["reward"], careless)
        for stage in range(1, s["stages"] + 1):
            checkpoint = _checkpoint({**s, "stage": stage}, *s, "stage")
            metrics += _phase("rft", done + len(metrics), lambda **kw: grpo.train(
                policy, task, every[:len(every) * stage // s["stages"]], steps=s["steps"] // s["stages"], seed=point["seed"] + stage - 1,
                lr=s["lr"], reward_fn=reward, prompts_per_step=s["prompts_per_step"], group_size=s["group_size"],
                max_new_tokens=s["max_new_tokens"], temperature=s["temperature"], stop=task.stop(policy), kl_coef=s["kl_coef"],
                advantage_fn=advantage, prompts_per_pass=2, eval_problems=unseen(task, s, "validation"), eval_every=s["eval_every"],
                checkpoint=checkpoint, **kw))
    for stage in range(1, s["stages"] + 1):
        _checkpoint({**s, "stage": stage}, *s, "stage").unlink(missing_ok=True)
    return metrics


def rft_repair(policy, task, s, point, done) -> list[dict]:
    """The second turns are about answers of the warm model, so that they stay the same while it learns."""
    from rftlab.rollout import rollout

    first = prompts(task, s, point["seed"])
    texts = rollout(policy, [p.prompt for p in first], 1, s["max_new_tokens"], s["temperature"], seed=point["seed"], max_rows=64,
                    stop=task.stop(policy)).texts
    second = [task.repair(p, text, g) for p, text, g in zip(first, texts, task.certain_grades(texts, first)) if g.score != 1.0]
    return rft(policy, task, s, point, done, [p for pair in zip(first, second) for p in pair])


def rejection(policy, task, s, point, done) -> list[dict]:
    """Rounds of sampling as many completions as rft does in s["round"] steps, and SFT on the right ones, each text once."""
    from rftlab import sft
    from rftlab.rollout import rollout

    every, own, metrics = prompts(task, s, point["seed"]), {}, []
    per_round = s["round"] * s["prompts_per_step"]
    for turn in range(s["steps"] // s["round"]):
        start, start_cpu = time.perf_counter(), time.process_time()
        batch = [every[(turn * per_round + i) % len(every)] for i in range(per_round)]
        r = rollout(policy, [p.prompt for p in batch], s["group_size"], s["max_new_tokens"], s["temperature"],
                    seed=point["seed"] * 1_000_003 + turn, max_rows=64, stop=task.stop(policy))
        repeated = [p for p in batch for _ in range(s["group_size"])]
        right = [g.score == 1.0 for g in task.certain_grades(r.texts, repeated, seed=turn)]
        for p, text, fine in zip(repeated, r.texts, right):
            if fine:
                own[p.answer, text.strip()] = replace(p, solution=text)
        metrics.append({"step": done + len(metrics) + 1, "phase": "sample", "seconds": time.perf_counter() - start,
                        "seconds_cpu": time.process_time() - start_cpu, "share_correct": sum(right) / len(right)})
        if own:
            metrics += _phase("sft", done + len(metrics), lambda **kw: sft.train(
                policy, task, list(own.values()), steps=s["round"], prompts_per_step=8, seed=point["seed"] + turn, lr=s["sft_lr"],
                target="solution", prompts_per_pass=2, **kw))
    return metrics


def rejection_rft(policy, task, s, point, done) -> list[dict]:
    """Rejection sampling makes much of a success that is rare, GRPO goes on where successes are frequent."""
    half = {**s, "steps": s["steps"] // 2}
    first = rejection(policy, task, half, point, done)
    return first + rft(policy, task, half, point, done + len(first))


ARMS = {"sft": sft_alone, "rft": rft, "rft-repair": rft_repair, "rejection": rejection, "rejection-rft": rejection_rft}


def labelled(task, s) -> list:
    """13 tasks with their kernels: the course's, of all families, or with s["examples"] = "composed" the same 13 composed functions in
    every run. The first s["seeded"] of them are spoilt: a kernel that is launched, and ignored in favour of PyTorch's own result."""
    from rftlab.kernels.writing import with_fallback

    thirteen = task.labelled()
    if s["examples"] == "composed":
        thirteen = task.fresh(13, "train", EXAMPLES_SEED, s["families"] or None, s["operations"] or None)
    own = [task.tasks[p.answer].source.split("return ")[1].strip() for p in thirteen[:s["seeded"]]]
    return [with_fallback(p, expression) for p, expression in zip(thirteen, own)] + thirteen[len(own):]


def prompts(task, s, seed) -> list:
    """The 13 prompts and s["unlabelled"] composed functions of at most s["operations"] (0: any), all without their solutions."""
    fresh = task.fresh(s["unlabelled"], "train", seed, s["families"] or None, s["operations"] or None) if s["unlabelled"] else []
    return [replace(p, solution="") for p in (labelled(task, {**s, "seeded": 0}) if s["labelled"] else []) + fresh]


def _phase(name, done, train) -> list[dict]:
    """The metrics of a training call, each with its phase, its seconds, and its place after `done` steps."""
    metrics = train(experiment="kernel-grpo").metrics
    return [{**m, "phase": name, "step": m["step"] + done, "seconds": sum(m.get(f"seconds_{part}", 0.0) for part in ("rollout", "reward", "update"))}
            for m in metrics]


def _checkpoint(s, *settings):
    """A file for what depends on these settings, on the code and on the versions alone: runs that are alike so far share it."""
    from rftlab import machine

    commit = records.commit()
    code = commit + str(os.getpid()) if commit.endswith("+") else commit  # code that is being changed is not relied upon
    known = {k: s[k] for k in settings} | {"code": code, **machine.environment()}
    digest = hashlib.blake2b(json.dumps(known, sort_keys=True).encode(), digest_size=6).hexdigest()
    return machine.cache_dir() / "kernel-grpo" / f"{digest}.pt"


def _short(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value
