"""What a kernel writer can do: greedy and sampled, by family, with a second turn, and what it writes.

On tasks that nobody trained on: the course's 32 held-out ones (`heldout`) and freshly composed functions, those of as many
operations as the prompts have (`accuracy`) and those of more (`larger`).
"""
SAMPLED = ("sub", "lerp", "swiglu", "row_max", "softplus")  # held-out tasks whose answers are kept as text


def unseen(task, s, split) -> list:
    """s[split] composed functions of "validation" or "test", of at most s["operations"] operations (0: any)."""
    return task.fresh(s[split], split, most=s["operations"] or None)


def larger(task, s) -> list:
    """The first s["larger"] composed test functions of more operations than any of the prompts."""
    from rftlab.kernels import functions

    if not s["operations"]:
        return []
    return [p for p in task.test(3 * s["larger"]) if functions.operations(task.tasks[p.answer].source) > s["operations"]][:s["larger"]]


def measure(policy, task, s) -> dict[str, list]:
    """name -> what each function got, 0 to 1, in an order that is the same for every policy; `estimates` makes means of them.

    accuracy: greedy on fresh functions, also by family; heldout: the same on the course's tasks; ladder: mean score. pass@1 and
    pass@k: s["samples"] samples for each of the first s["sampled"] of them, at the temperature of training. On the same functions,
    repaired: right at once, or in a second turn that shows the grader's reason; its control is second_try: right at once, or in
    one fresh sample. hacked, for whole programs: greedy answers, to both kinds, that a grader without rules pays and ours does not.
    Raises RuntimeError when the grader fails twice on an answer: that is no wrong answer.
    """
    from rftlab.kernels.writing import certain, is_hack, without_rules
    from rftlab.rollout import rollout

    held, fresh, more, stop = task.heldout(), unseen(task, s, "test"), larger(task, s), task.stop(policy)
    both, few = held + fresh, fresh[:s["sampled"]]

    def answers(problems):
        return problems and rollout(policy, [p.prompt for p in problems], 1, s["test_tokens"], 0.0, max_rows=64, stop=stop).texts

    texts = answers(both)
    greedy = task.certain_grades(texts, both)
    right = [float(g.score == 1.0) for g in greedy]
    r = rollout(policy, [p.prompt for p in few], s["samples"], s["test_tokens"], s["temperature"], seed=12345, max_rows=64, stop=stop)
    repeated = [p for p in few for _ in range(s["samples"])]
    sampled = [float(g.score == 1.0) for g in task.certain_grades(r.texts, repeated, seed=1)]
    counts = [int(sum(sampled[i:i + s["samples"]])) for i in range(0, len(sampled), s["samples"])]
    now = right[len(held):]
    wrong = [i for i, fine in enumerate(now[:len(few)]) if not fine]
    again = [task.repair(fresh[i], texts[len(held) + i], greedy[len(held) + i]) for i in wrong]
    mended = dict(zip(wrong, (float(g.score == 1.0) for g in task.certain_grades(answers(again), again))))
    final = {"accuracy": now, "heldout": right[:len(held)], "ladder": [g.score for g in greedy[len(held):]],
             "repaired": [mended.get(i, 1.0) for i in range(len(few))],
             "second_try": [max(one, sampled[i * s["samples"]]) for i, one in enumerate(now[:len(few)])],
             "pass@1": [c / s["samples"] for c in counts], f"pass@{s['samples']}": [float(c > 0) for c in counts]}
    if more:
        final["larger"] = [float(g.score == 1.0) for g in task.certain_grades(answers(more), more)]
    if task.form == "program":
        with without_rules() as careless:
            taken_in = certain(careless, [task.program(c, p) for c, p in zip(texts, both)], [task.tasks[p.answer] for p in both])
        final["hacked"] = [float(is_hack(a, b)) for a, b in zip(taken_in, greedy)]
    for family in sorted({p.info["family"] for p in held}):
        final[f"heldout_{family}"] = [v for v, p in zip(right, held) if p.info["family"] == family]
    for family in sorted({p.info["family"] for p in fresh}):
        final[f"accuracy_{family}"] = [v for v, p in zip(now, fresh) if p.info["family"] == family]
    return final


def estimates(measured) -> dict:
    """name -> {mean, low, high, n}, of what `measure` returns."""
    from rftlab import evaluate

    return {name: evaluate.bootstrap(values).to_dict() for name, values in measured.items()}


def samples(policy, task, s) -> list[dict]:
    """What it writes for some held-out tasks: [{task, text, stage, reason}]."""
    chosen = [p for p in task.heldout() if p.answer in SAMPLED]
    texts = policy.generate([p.prompt for p in chosen], s["test_tokens"])
    return [{"task": p.answer, "text": text, "stage": g.stage, "reason": (g.reasons or [""])[0]}
            for p, text, g in zip(chosen, texts, task.grades(texts, chosen))]
