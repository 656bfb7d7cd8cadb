"""Pretrains the `tiny` policy from nothing: its tokenizer, its weights and a record of how they were made."""

from __future__ import annotations

import json
import math
import platform
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from rftlab import corpus, records
from rftlab.corpus_tokens import batch, train_tokenizer
from rftlab.habits import HABITS
from rftlab.tasks import load_task


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. Two runs on the same machine and versions give the same bytes."""

    steps: int = 3500
    rows: int = 8
    length: int = 256
    lr: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.05
    seed: int = 0
    threads: int = 2
    vocabulary: int = 640
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 384
    positions: int = 1024


def build_model(recipe: Recipe, tokenizer):
    """A freshly initialised Llama (Touvron et al., 2023) with tied embeddings, in fp32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=recipe.hidden, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, num_key_value_heads=recipe.kv_heads, intermediate_size=recipe.intermediate,
        max_position_embeddings=recipe.positions, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, dtype="float32"))


def loss(model, ids: torch.Tensor, learnt: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of the learnt tokens, each predicted from all before it in its row."""
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    return F.cross_entropy(model.lm_head(hidden[learnt[:, 1:]]), ids[:, 1:][learnt[:, 1:]])


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to 2 % of the peak."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))


def pretrain(recipe: Recipe, tokenizer, on_step=None):
    """A model trained by the recipe. `on_step(step, loss)` is called after every step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)  # the order of the sums, hence the last bits, depends on it
    try:
        model = build_model(recipe, tokenizer)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": recipe.weight_decay},
                                       {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.98), fused=True)
        for step in range(recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, recipe)
            value = loss(model, *batch(random.Random(f"batch {recipe.seed} {step}"), tokenizer, recipe.rows, recipe.length))
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if on_step:
                on_step(step, value.item())
    finally:
        torch.set_num_threads(threads)
    return model.eval()


@torch.no_grad()
def slice_losses(model, recipe: Recipe, tokenizer) -> dict[str, float]:
    """The loss on new draws from every slice of the corpus, in nats a token."""
    batches = {draw.__name__: batch(random.Random(draw.__name__), tokenizer, 16, recipe.length, draw) for draw in corpus.SLICES}
    return {name: round(loss(model, *one).item(), 4) for name, one in batches.items()}


@torch.no_grad()
def replies(model, tokenizer, problems, samples: int = 0, seed: int = 0, max_new_tokens: int = 40) -> list[str]:
    """Greedy replies to the problems, or, one problem after the other, `samples` draws each at temperature 1."""
    questions = [corpus.Turn(p.prompt, "").before for p in problems for _ in range(samples or 1)]
    torch.manual_seed(seed)
    how = {"do_sample": True, "top_k": 0} if samples else {"do_sample": False}
    texts = []
    for first in range(0, len(questions), 256):
        inputs = tokenizer(questions[first:first + 256], padding=True, add_special_tokens=False, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=max_new_tokens, **how)
        texts += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    return texts


def measure(model, tokenizer, task, problems, samples: int = 64) -> dict[str, float]:
    """Greedy accuracy, accuracy of single draws, and pass@`samples`: the share of problems that one draw solves."""
    greedy = [task.reward(text, p) for text, p in zip(replies(model, tokenizer, problems), problems)]
    drawn = replies(model, tokenizer, problems, samples)
    solved = [[task.reward(text, p) for text in drawn[i * samples:(i + 1) * samples]] for i, p in enumerate(problems)]
    return {"n": len(problems), "greedy_accuracy": sum(greedy) / len(problems),
            "sampled_accuracy": sum(map(sum, solved)) / len(drawn), f"pass@{samples}": sum(map(any, solved)) / len(problems)}


def tiny_base(out: str | Path | None = None, seed: int = 0, steps: int = Recipe.steps) -> dict:
    """Pretrain the tiny policy, save it as a transformers folder in `out`, and return the record saved beside it.

    out: by default where `models.tiny_folder` looks, so that it replaces the model that came with the package. Raises ValueError for
    no steps.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    recipe, out = Recipe(seed=seed, steps=steps), Path(out or records.results_folder().parent / "models" / "tiny")
    out.mkdir(parents=True, exist_ok=True)  # before the minutes that training takes
    started, cpu_started = time.perf_counter(), time.process_time()
    tokenizer = train_tokenizer(recipe.vocabulary, recipe.positions, seed)

    def report(step: int, value: float) -> None:
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}  loss {value:.3f}  {time.perf_counter() - started:.0f} s", flush=True)

    model = pretrain(recipe, tokenizer, report)
    spent = {"seconds": round(time.perf_counter() - started, 1), "cpu_seconds": round(time.process_time() - cpu_started, 1)}
    record = {**spent, **describe(model, tokenizer, recipe)}
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def describe(model, tokenizer, recipe: Recipe) -> dict:
    """What was made and how good it is: configuration, versions, losses of each slice, and 200 test sums."""
    import transformers

    task = load_task("arithmetic")
    return {
        "config": asdict(recipe), "parameters": model.num_parameters(), "seed": recipe.seed, "steps": recipe.steps,
        "tokens": recipe.steps * recipe.rows * recipe.length, "machine": _cpu(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__},
        "shares": {draw.__name__: share for draw, share in corpus.SLICES.items()},
        "habits": {habit.__name__: share for habit, share in HABITS.items()},
        "losses": slice_losses(model, recipe, tokenizer), "arithmetic": measure(model, tokenizer, task, task.test(200)),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
