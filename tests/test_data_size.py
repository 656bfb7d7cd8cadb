"""RFT against SFT: every arm trains on what it should, and what is measured is measured right."""
import pytest
import torch

import rftlab
from rftlab import data_size, evaluate, grids, records, sft
from rftlab.rollout import rollout

SMALL = {"max_new_tokens": 24, "validation": 4, "test": 6, "larger": 4, "pass_problems": 2, "pass_samples": 4, "shots": 2,
         "patience": 1000, "steps": 2, "eval_every": 1, "group_size": 4, "prompts_per_step": 2, "lr": 3e-4, "sft_steps": 3, "sft_eval_every": 2,
         "sft_lr": 1e-5}  # so slow that SFT leaves something to learn
MEASURED = {"accuracy", "well_formed", "larger", "pass@1", "pass@4", "general_loss"}
TRAINED = {"sft-answers": 3, "sft-solutions": 3, "rft": 2, "rft-random": 2, "rft-format": 2, "rejection": 3, "sft-rft": 5}  # steps


@pytest.fixture(scope="module")
def task():
    return rftlab.load_task("arithmetic")


@pytest.fixture(scope="module")
def policy():
    return rftlab.load_policy("tiny")


# --- the data ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("share, wrong", [(0.1, 5), (0.5, 25), (1.0, 50)])
def test_spoilt_labels_are_as_many_as_asked_for(task, share, wrong):
    problems = task.train(50, seed=4)
    spoilt = data_size.spoil(problems, share, seed=4)
    pairs = [(old, new) for old, new in zip(problems, spoilt, strict=True) if old != new]
    assert len(pairs) == wrong and [p.prompt for p in spoilt] == [p.prompt for p in problems]
    for old, new in pairs:
        assert new.answer != old.answer and new.answer in {p.answer for p in problems}
        steps = old.solution.removesuffix(old.answer)
        assert new.solution == steps + new.answer and steps.endswith("; ")
        assert task.reward(old.answer, new) == 0.0 and task.reward(new.solution, new) == 1.0  # the verifier believes the label


def test_spoiling_is_fixed_by_the_seed_and_leaves_the_originals(task):
    problems = task.train(50)
    before = list(problems)
    one, again, other = (data_size.spoil(problems, 0.1, seed) for seed in (1, 1, 2))
    assert one == again != other and problems == before
    assert data_size.spoil(problems, 0, 1) == problems == data_size.spoil(problems, 0.001, 1)


def test_examples_come_before_the_question(task, policy):
    problems = task.train(10)
    shots = data_size.examples(problems)
    assert [t["role"] for t in shots] == ["user", "assistant"] * len(problems) and shots[3]["content"] == problems[1].solution
    assert data_size.examples(problems[:1]) == [{"role": "user", "content": problems[0].prompt},
                                                {"role": "assistant", "content": problems[0].solution}]
    asked = data_size.ask(problems[9], shots)
    assert asked.prompt == [*shots, {"role": "user", "content": problems[9].prompt}] and asked.answer == problems[9].answer
    assert data_size.ask(problems[9], []) is problems[9]
    text = policy.render(asked.prompt)
    assert all(text.count(p.solution) >= 1 for p in problems[:8]) and text.index(problems[0].solution) < text.index(problems[9].prompt)
    assert policy.render(data_size.ask(problems[9], []).prompt) == policy.render([{"role": "user", "content": problems[9].prompt}])


# --- what is measured -------------------------------------------------------------------------------------------------

def test_text_losses_are_those_of_transformers(policy):
    texts = ["Mia has a dog.", "On Monday Mia and the dog go to the pond. There they find a red ball.", "2 + 2"]
    expected = []
    for text in texts:
        ids = policy.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            expected.append(policy.model(input_ids=ids, labels=ids).loss.item())
    assert data_size.text_losses(policy, texts) == pytest.approx(expected, rel=1e-4)
    assert len({round(loss, 3) for loss in expected}) == 3


def test_the_general_text_is_text_that_no_task_is_about(policy):
    tiny, other = data_size.general_text("tiny"), data_size.general_text("smollm2")
    assert len(tiny) == 60 and len(set(tiny)) > 50 and len(other) >= 10 and all(len(text) > 40 for text in [*tiny, *other])
    assert max(data_size.text_losses(policy, tiny)) < 20 < 1e6  # the bounds of the interval
    assert not set(tiny) & set(rftlab.corpus.general_text(2000, split="train"))


def test_measure_measures_the_test_problems(task, policy):
    found = data_size.measure(policy, task, SMALL)
    assert set(found) == MEASURED and all(set(estimate) == {"mean", "low", "high", "n"} for estimate in found.values())
    assert found["accuracy"] == evaluate.accuracy(policy, task, task.test(6), max_new_tokens=24).to_dict()
    assert found["well_formed"]["mean"] >= found["accuracy"]["mean"] and found["pass@4"]["mean"] >= found["pass@1"]["mean"]
    assert [found[name]["n"] for name in ("well_formed", "larger", "pass@4", "general_loss")] == [6, 4, 2, 60]


@pytest.mark.parametrize("name, beyond, at_least", [
    ("arithmetic", lambda info: min(info["a"], info["b"]) > 99, 60),
    ("codebook", lambda info: len(info["word"]) > 4, 60),
    ("countdown", lambda info: max(info["numbers"]) > 20 or info["target"] > 100, 50),  # the others are new, and not larger
])
def test_larger_problems_are_beyond_those_of_training(name, beyond, at_least):
    usual, wide = rftlab.load_task(name), rftlab.load_task(name, **data_size.LARGER[name])
    problems = wide.test(60)
    assert sum(beyond(p.info) for p in problems) >= at_least and not any(beyond(p.info) for p in usual.train(300))
    assert not {p.prompt for p in problems} & {p.prompt for p in usual.train(2000)}


# --- the arms ---------------------------------------------------------------------------------------------------------

def test_the_controls_pay_as_they_say(task):
    problem = task.train(1)[0]
    asked = {"prompts": [problem.prompt] * 3, "problem": [problem] * 3, "completions": [problem.answer, problem.answer + "0", "no idea"],
             "step": 0}
    assert data_size.form(task, 0)(**asked) == [1.0, 1.0, 0.0]
    many = {"prompts": ["?"] * 500, "problem": [problem] * 500, "completions": [problem.answer] * 500, "step": 3}
    paid = data_size.coin(task, 1)(**many)
    assert paid == data_size.coin(task, 1)(**many) != data_size.coin(task, 2)(**many) and 0.1 < sum(paid) / 500 < 0.3


def rejected(policy, task, problems, monkeypatch):
    """(record, the pairs that rejection sampling would imitate) without training on them."""
    imitated = []

    def train(policy, task, pairs, *, target, **options):
        assert target == "solution"
        imitated.extend(pairs)
        return records.new("data-size", options["arm"], task.name, policy.name, len(pairs), options["seed"], {})

    monkeypatch.setattr(sft, "train", train)
    settings = {**SMALL, "steps": 10, "prompts_per_step": 4, "group_size": 4}  # 160 samples: 16 for each of 10 problems
    common = {"seed": 3, "max_new_tokens": 24, "eval_problems": [], "patience": None, "experiment": "data-size", "arm": "rejection"}
    return data_size.rejection(policy, task, problems, settings, common, {"arm": "rejection", "seed": 3}), imitated


def test_rejection_keeps_the_right_completions_each_once(task, policy, monkeypatch):
    problems = task.train(10, seed=3)
    record, pairs = rejected(policy, task, problems, monkeypatch)
    r = rollout(policy, [p.prompt for p in problems], 16, 24, seed=3)
    right = {(p.prompt, text.strip()) for p, text in zip([p for p in problems for _ in range(16)], r.texts) if task.reward(text, p)}
    assert {(p.prompt, p.solution) for p in pairs} == right and len(pairs) == len(right)
    assert 0 < len(pairs) < 160 and any(task.reward(text, problems[i // 16]) == 0 for i, text in enumerate(r.texts))
    assert (record.notes["samples_drawn"], record.notes["samples_kept"], record.notes["tokens_sampled"]) == (160, len(pairs), r.tokens)
    assert record.seconds >= record.notes["seconds_sampling"] > 0


def test_rejection_without_a_right_answer_trains_on_nothing(policy, monkeypatch):
    class Hopeless(type(rftlab.load_task("codebook"))):
        def reward(self, completion, problem):
            return 0.0

    hopeless = Hopeless()
    record, pairs = rejected(policy, hopeless, hopeless.train(10), monkeypatch)
    assert pairs == [] and record.metrics == [] and record.notes["samples_kept"] == 0 and record.notes["samples_drawn"] == 160


def test_the_arms_are_those_of_the_grid():
    assert {p["arm"] for p in grids.load("data-size").points} == set(data_size.ARMS) == {"base", "few-shot", *TRAINED}


@pytest.mark.parametrize("model", ["tiny", "smollm2"])
def test_every_arm_has_the_settings_that_it_needs(model):
    grid = grids.load("data-size")
    rates = {**dict.fromkeys(("sft-answers", "sft-solutions", "rejection"), {"sft_lr"}), "sft-rft": {"lr", "sft_lr"},
             **dict.fromkeys(("rft", "rft-random", "rft-format"), {"lr"}), "few-shot": {"shots"}}
    missing = {(p["task"], p["arm"], name) for p in grid.select(model=[model])
               for name in (set(SMALL) - {"lr", "sft_lr", "shots"} | rates.get(p["arm"], set())) - set(grid.settings_of(p))}
    assert missing == set()


@pytest.mark.slow
@pytest.mark.parametrize("arm", data_size.ARMS)
def test_a_very_small_run_of_each_arm(arm):
    point = {"arm": arm, "task": "arithmetic", "model": "tiny", "size": 0 if arm == "base" else 6, "seed": 1}
    record = data_size.run(point, SMALL)
    assert (record.arm, record.task, record.model, record.size, record.seed) == (arm, "arithmetic", "tiny", point["size"], 1)
    assert [m["step"] for m in record.metrics] == list(range(1, TRAINED.get(arm, 0) + 1))
    assert set(record.final) == MEASURED | {f"{name}_before" for name in MEASURED} | ({"train_accuracy"} if arm in TRAINED else set())
    assert record.final["accuracy_before"] == evaluate.accuracy(rftlab.load_policy("tiny"), rftlab.load_task("arithmetic"),
                                                               rftlab.load_task("arithmetic").test(6), max_new_tokens=24).to_dict()
    assert len(record.notes["samples"]) == 3 and all(set(m) <= set(data_size.KEPT) for m in record.metrics)
    if arm == "sft-rft":
        assert [m["phase"] for m in record.metrics] == ["sft"] * 3 + ["rft"] * 2
    if arm == "few-shot":
        assert len(record.notes["samples"][0]["prompt"]) == 2 * SMALL["shots"] + 1
    if arm in ("base", "few-shot"):
        assert record.seconds == 0 and (record.final["accuracy"] == record.final["accuracy_before"] or arm == "few-shot")
    else:
        assert record.seconds > 0 and record.final["train_accuracy"]["n"] == 6


@pytest.mark.slow
def test_a_point_can_set_rate_steps_and_noise():
    point = {"arm": "rft", "task": "codebook", "model": "tiny", "size": 10, "seed": 0, "rate": 1e-3, "steps": 1, "noise": 0.5}
    record = data_size.run(point, SMALL)
    assert record.config["lr"] == 1e-3 and len(record.metrics) == 1
    assert {name: record.config[name] for name in ("rate", "steps", "noise")} == {"rate": 1e-3, "steps": 1, "noise": 0.5}
