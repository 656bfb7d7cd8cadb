"""Turbo beside transformers: greedy answers one at a time, the same prompts for all, and every answer compared.

    python -m rftlab bench turbo          whole kernel programs by SmolLM2; prepared once, an hour of one core
    python -m rftlab.turbo_curve          the same adapter and heads against batch size, measured and predicted

Peers: `generate`, `generate` with prompt_lookup_num_tokens, and `generate` with an assistant model, which is the distilled draft
model of `rftlab.speculative`. All run in processes of their own, in turns.
"""
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

PROMPTS, NEW_TOKENS, LEAST = 6, 256, 128
METHODS = ("plain", "ngram", "draft", "turbo", "generate", "generate_lookup", "generate_assistant")
SHORT = {"tiny": (32, 10)}  # new tokens, and the least that an answer of a prompt must have, where it is not NEW_TOKENS and LEAST
RECIPES = {
    "smollm2": {"rank": 16, "passes": 24, "heads": 8, "heads_steps": 400, "draft_layers": 6, "draft_steps": 150, "samples": 2},
    "tiny": {"rank": 4, "passes": 8, "heads": 3, "heads_steps": 60, "draft_layers": 2, "draft_steps": 20, "samples": 1},
}


def questions(model):
    """(problems with solutions, prompts for the speculators, held-out prompts): kernels for smollm2, two-digit arithmetic for tiny.

    A speculator learns from the policy's own answers, so that its prompts need no solutions: for smollm2 they are those of the 13
    examples and of 48 composed functions.
    """
    from rftlab import load_task
    from rftlab.kernels.writing import KernelWriting

    if model == "tiny":
        task = load_task("arithmetic")
        problems = task.train(48, seed=0)
        return problems, [p.prompt for p in problems], [p.prompt for p in task.test(16)]
    task = KernelWriting(None, "program")  # nothing is graded here
    problems = task.labelled()
    return problems, [p.prompt for p in problems + task.fresh(48, "train")], [p.prompt for p in task.heldout()]


def writer(model, **options):
    """The policy: for smollm2 the kernel writer, which reads plain text without a chat template."""
    import rftlab

    return rftlab.load_policy(model, raw=model == "smollm2", **options)


def prepared(model, new_tokens=None, least=None) -> Path:
    """A folder with a task-tuned adapter, its speculators and the prompts of the bench; made at the first call.

    The adapter imitates the solutions; heads and draft model learn from its own answers to their prompts, greedy or sampled.
    Kept are held-out prompts that it answers in at least `least` tokens.
    """
    import rftlab
    from rftlab import machine, sft, speculative

    recipe, (usual, usual_least) = RECIPES[model], SHORT.get(model, (NEW_TOKENS, LEAST))
    new_tokens, least = new_tokens or usual, least or usual_least
    folder = machine.cache_dir() / ("turbo-" + "-".join([model, *(f"{v}" for v in recipe.values()), str(new_tokens)]))
    if (folder / "prompts.json").is_file():
        return folder
    train, prompts, held_out = questions(model)
    print(f"preparing {folder.name}: adapter, heads, draft model", file=sys.stderr, flush=True)
    policy = writer(model, lora=rftlab.LoraSpec(recipe["rank"], 2 * recipe["rank"]))
    records = [sft.train(policy, Examples, train, steps=recipe["passes"] * len(train) // 8, target="solution", lr=4e-4, max_new_tokens=new_tokens,
                         prompts_per_pass=4, experiment="turbo", arm="lora", checkpoint=folder / "lora.pt")]
    common = {"max_new_tokens": new_tokens, "samples": recipe["samples"], "temperature": 0.7 if recipe["samples"] > 1 else 0.0,
              "eval_prompts": held_out[:12], "experiment": "turbo"}
    records.append(speculative.train_heads(policy, prompts, k=recipe["heads"], steps=recipe["heads_steps"], checkpoint=folder / "heads.pt", **common)[1])
    records.append(speculative.train_draft(policy, prompts, layers=recipe["draft_layers"], steps=recipe["draft_steps"], rows_per_step=4,
                                           checkpoint=folder / "draft.pt", **common)[1])
    policy.save(folder)
    for record in records:
        record.save(folder / f"record-{record.arm}.json")
    answers = speculative.decode(policy, held_out[: 2 * PROMPTS], speculative.find(policy, "turbo"), new_tokens, max_rows=1).tokens
    long = [prompt for prompt, tokens in zip(held_out, answers) if len(tokens) >= least][:PROMPTS]
    if not long:
        raise ValueError(f"none of the first {len(answers)} held-out answers has {least} tokens, the longest has {max(map(len, answers))}; "
                         "train the adapter longer")
    (folder / "prompts.json").write_text(json.dumps(long))
    return folder


class Examples:
    """A task without a verifier: its problems are only imitated."""

    name = "kernels"


def worker(gate, method, model, dtype, folder, new_tokens, out):
    """At each request, answer all prompts one at a time; the ids of the last round go into `out`/method.json."""
    from rftlab import bench, speculative

    policy = writer(model, lora=folder, dtype=dtype)
    prompts = json.loads((Path(folder) / "prompts.json").read_text())
    if method.startswith("generate"):
        answer = by_generate(policy, method, new_tokens)
    else:
        speculator = speculative.find(policy, None if method == "plain" else method)

        def answer(prompt):
            return speculative.decode(policy, [prompt], speculator, new_tokens).tokens[0]

    def step():
        (Path(out) / f"{method}.json").write_text(json.dumps([answer(prompt) for prompt in prompts]))

    bench.repeat(step, gate)


def by_generate(policy, method, new_tokens):
    """A function prompt -> new ids, by transformers' greedy generate, plain or with its own speculation."""
    options = {}
    if method == "generate_lookup":
        options["prompt_lookup_num_tokens"] = 10  # the value of transformers' documentation
    if method == "generate_assistant":
        from rftlab import speculative

        options["assistant_model"] = speculative.find(policy, "draft").model
        options["assistant_model"].set_attn_implementation("sdpa")
    policy.model.set_attn_implementation("sdpa")

    def answer(prompt):
        ids, mask = policy.encode([prompt])
        found = policy.model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=new_tokens,
                                      pad_token_id=policy.pad_id, eos_token_id=sorted(policy.end_ids), **options)
        return found[0, ids.shape[1]:].tolist()

    return answer


def bench_turbo(model="smollm2", runs=3, new_tokens=None, least=None, dtype=None):
    """Rows turbo_vs_generate, turbo_vs_best_assisted, plain_vs_generate; further keys: identical, tokens, acceptance of all methods.

    identical: the share of answers that are equal id by id. In float32 it is 1. In bfloat16 two logits that are equal to 8 bits
    may come out in either order, also between transformers' own methods.
    """
    from rftlab import bench, machine

    folder, new_tokens = prepared(model, new_tokens, least), new_tokens or SHORT.get(model, (NEW_TOKENS, LEAST))[0]
    dtype = dtype or ("float32" if model == "tiny" else machine.fast_dtype())  # measured once, the same for all
    with tempfile.TemporaryDirectory() as out:
        makers = [partial(worker, method=m, model=model, dtype=dtype, folder=str(folder), new_tokens=new_tokens, out=out) for m in METHODS]
        seconds = [s for s, _ in bench.interleaved(makers, runs)]
        ids = {m: json.loads((Path(out) / f"{m}.json").read_text()) for m in METHODS}
    speed = {m: sum(map(len, ids[m])) / s for m, s in zip(METHODS, seconds)}
    policy = writer(model, dtype=dtype)
    limit = machine.memory_bandwidth() / (sum(p.numel() for p in policy.model.parameters()) * policy.model.dtype.itemsize)
    best = max(("generate_lookup", "generate_assistant"), key=speed.get)
    pairs = [("turbo_vs_generate", "turbo", "generate", None), ("turbo_vs_best_assisted", "turbo", best, None),
             ("plain_vs_generate", "plain", "generate", limit)]
    rows = [bench.row(name, "tokens/s, batch 1", speed[ours], f"transformers {peer}", speed[peer], bound, runs, True)
            | {"identical": _same(ids[ours], ids[peer])} for name, ours, peer, bound in pairs]
    rows[0]["tokens_per_second"] = {m: round(s, 2) for m, s in speed.items()}
    rows[0]["identical_to_plain"] = {m: _same(ids[m], ids["plain"]) for m in METHODS}
    rows[0]["tokens"] = [len(t) for t in ids["turbo"]]
    return rows


def _same(ours, theirs) -> float:
    return round(sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours), 3)
