"""Supervised fine-tuning on the same problems, with the same signature as `rftlab.grpo.train`: imitate a given text."""
import time

import torch

from rftlab import losses, records
from rftlab.logprobs import completion_log_probs
from rftlab.loop import Loop, configuration, digest, draw

TARGETS = ("answer", "solution")


def train(policy, task, problems, *, steps=100, seed=0, prompts_per_step=8, max_new_tokens=32, lr=None, target="answer",
          prompts_per_pass=32, eval_problems=None, eval_every=0, patience=None, checkpoint=None, checkpoint_every=5,
          on_step=None, experiment="adhoc", arm=None):
    """Train `policy` to write `target` ("answer", "solution", or a function problem -> text); returns its RunRecord.

    The loss is the mean over all target tokens of the batch, the end of the turn included; the prompt is not trained on.
    The other arguments are those of `rftlab.grpo.train`. Raises ValueError for no problems, an unknown target, or a
    problem whose target is empty.
    """
    if not problems:
        raise ValueError("need at least one problem to train on, got none")
    if not callable(target) and target not in TARGETS:
        raise ValueError(f"target is {target!r}; expected one of {', '.join(TARGETS)}, or a function of a problem")
    text_of = target if callable(target) else lambda p: getattr(p, target)
    empty = [p.prompt for p in problems if not text_of(p)]
    if empty:
        raise ValueError(f"{len(empty)} of {len(problems)} problems have no text to imitate, the first is {empty[0]!r}")
    seed, lr = int(seed), float(lr if lr is not None else 2e-4 if policy.adapters else 3e-4)
    texts = digest(map(text_of, problems))
    arguments = {k: v for k, v in locals().items() if k not in (
        "policy", "task", "problems", "checkpoint", "checkpoint_every", "on_step", "prompts_per_pass", "experiment", "arm",
        "text_of", "empty")}
    arm = arm or ("sft" if callable(target) else f"sft-{target}s")
    record = records.new(experiment, arm, task.name, policy.name, len(problems), seed,
                         configuration(policy, task, problems, arguments))
    loop = Loop(policy, task, record, steps=steps, lr=lr, eval_problems=eval_problems, eval_every=eval_every,
                max_new_tokens=max_new_tokens, patience=patience, checkpoint=checkpoint, checkpoint_every=checkpoint_every,
                on_step=on_step)
    for step in loop:
        start = time.perf_counter()
        batch = draw(problems, prompts_per_step, seed, step)
        prompt_ids, prompt_mask = policy.encode([p.prompt for p in batch])
        ids, mask = encode_targets(policy, [text_of(p) for p in batch])
        tokens, total = int(mask.sum()), 0.0
        alike = mask.sum(1).argsort(stable=True).cpu() if len(batch) > prompts_per_pass else torch.arange(len(batch))
        for part in alike.split(prompts_per_pass):  # texts of like length together, so that little is padding
            used = prompt_mask[part].any(0)
            log_probs = completion_log_probs(policy.model, prompt_ids[part][:, used], prompt_mask[part][:, used], ids[part], mask[part])
            loss = -losses.token_mean(log_probs, mask[part], tokens)
            loop.backward(loss)
            total += loss.item()
        norm = loop.step_optimizer()
        seconds = time.perf_counter() - start
        loop.log(step, {"loss": total, "grad_norm": norm, "length": tokens / len(batch),
                        "tokens_per_second": tokens / seconds, "seconds_update": seconds})
    return loop.finish()


def encode_targets(policy, texts):
    """Token ids and mask (B, T) of the texts, each ended by the end-of-turn token, padded on the right."""
    rows = [[*policy.tokenizer(t, add_special_tokens=False)["input_ids"], policy.tokenizer.eos_token_id] for t in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [policy.pad_id] * (width - len(row)) for row in rows], device=policy.model.device)
    lengths = torch.tensor([len(row) for row in rows], device=policy.model.device)
    return ids, torch.arange(width, device=ids.device) < lengths[:, None]
