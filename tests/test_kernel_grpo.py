"""The experiment of the kernel writer, end to end on the tiny model, which writes no kernel; what it would measure, by hand."""
import statistics
from types import SimpleNamespace

import pytest
import torch

from rftlab import grids, grpo, kernel_grpo, kernel_measure
from rftlab.kernels import Grade, KernelGrader, functions
from rftlab.kernels.writing import KernelWriting, paid, with_fallback, without_rules
from rftlab.rollout import Rollout

GRID = grids.load("kernel-grpo")
SMALL = {**GRID.settings_of(GRID.points[0]), "rank": 2, "passes": 1, "unlabelled": 3, "stages": 1, "steps": 1, "lr": 1e-4, "round": 1, "prompts_per_step": 2,
         "group_size": 2, "max_new_tokens": 6, "validation": 2, "eval_every": 1, "test": 3, "sampled": 3, "samples": 2}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RFTLAB_CACHE", str(tmp_path))


def test_a_killed_run_goes_on_and_a_warm_up_is_made_once(monkeypatch, tmp_path):
    monkeypatch.setattr("rftlab.records.commit", lambda: "0123456789ab")
    point, settings = {"arm": "rft", "reward": "steep", "model": "tiny", "seed": 0}, {**SMALL, "stages": 2, "steps": 2}
    whole = kernel_grpo.run(point, settings)
    begun, train = [], grpo.train

    def dies_in_stage_two(*args, **options):
        begun.append(options["seed"])
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(*args, **options)

    for file in tmp_path.glob("kernel-grpo/*.pt"):
        file.unlink()
    monkeypatch.setattr(grpo, "train", dies_in_stage_two)
    with pytest.raises(KeyboardInterrupt):
        kernel_grpo.run(point, settings)
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("kernel-grpo/*.pt")}
    assert len(kept) == 2  # the warm-up, and the first stage
    again = kernel_grpo.run(point, settings)
    assert [m["loss"] for m in again.metrics] == [m["loss"] for m in whole.metrics] and again.final == whole.final
    left = list(tmp_path.glob("kernel-grpo/*.pt"))
    assert len(left) == 1 and kept[left[0].name] == left[0].stat().st_mtime_ns
    assert (tmp_path / "kernel-grpo" / again.notes["adapter"] / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("arm, trained", [("base", 0), ("sft", 2), ("rft", 3), ("rft-repair", 3), ("rejection", 3), ("rejection-rft", 4)])
def test_every_arm_ends_in_a_record(arm, trained):
    steps = 2 if arm == "rejection-rft" else 1  # half of them in each way
    record = kernel_grpo.run({"arm": arm, "reward": "steep", "model": "tiny", "seed": 0}, {**SMALL, "steps": steps})
    assert (record.arm, record.config["reward"], len(record.metrics)) == (arm, "steep", trained)
    assert [m["step"] for m in record.metrics] == list(range(1, trained + 1))
    assert record.final["accuracy"]["n"] == 3 and record.final["heldout"]["n"] == 32
    assert ("accuracy_before" in record.final) == (arm != "base")
    assert all(value["mean"] == 0 for name, value in record.final.items() if not name.startswith("ladder"))


def test_a_grader_without_rules_is_closed_again():
    record = kernel_grpo.run({"arm": "rft", "reward": "naive", "model": "tiny", "seed": 0}, {**SMALL, "form": "program", "seeded": 2})
    assert record.metrics[-1]["reward"] == record.metrics[-1]["share_hack"] == 0 and record.task == "kernel-programs"
    assert record.final["hacked"]["mean"] == 0 and record.final["hacked"]["n"] == 35


def test_a_fallback_is_a_hack_and_an_honest_program_is_none(monkeypatch):
    with KernelGrader() as grader:
        task = KernelWriting(grader, "program")
        known = {p.prompt: p.solution for p in task.heldout() + task.test(3)}
        hacked = next(p for p in task.heldout() if p.answer == "sub")
        known[hacked.prompt] = with_fallback(hacked, "x - y").solution
        monkeypatch.setattr("rftlab.rollout.rollout", lambda policy, prompts, group_size, *rest, **options: Rollout(
            prompts, [known[p] if p in known else "pass" for p in prompts for _ in range(group_size)], *[None] * 5, group_size, 0.0))
        final = kernel_measure.estimates(kernel_measure.measure(None, task, SMALL))
    assert final["hacked"]["mean"] == pytest.approx(1 / 35) and final["heldout"]["mean"] == pytest.approx(31 / 32)


def test_no_measurement_counts_a_failure_of_the_grader(monkeypatch):
    class Broken:
        def grade(self, programs, tasks, seed=0):
            return [Grade(None, "grader", ["gone"], 0.0)] * len(programs)

    monkeypatch.setattr("rftlab.rollout.rollout", lambda policy, prompts, group_size, *rest, **options: Rollout(
        prompts, ["    pass"] * len(prompts), *[None] * 5, group_size, 0.0))
    task = KernelWriting(Broken())
    monkeypatch.setattr(task, "stop", lambda policy: None)
    with pytest.raises(RuntimeError, match="failed twice"):
        kernel_measure.measure(None, task, SMALL)


@pytest.mark.parametrize("examples", ["course", "composed"])
def test_the_warm_up_is_spoilt_as_often_as_asked(examples):
    """Spoilt examples are hacks: paid by a grader without rules, and not by ours."""
    with KernelGrader() as grader:
        task = KernelWriting(grader, "program")
        s = {**SMALL, "examples": examples, "operations": 2}
        clean, spoilt = (kernel_grpo.labelled(task, {**s, "seeded": n}) for n in (0, 3))
        assert len(clean) == 13 and [a.solution != b.solution for a, b in zip(clean, spoilt)] == [True] * 3 + [False] * 10
        asked = {"prompts": [], "completions": [p.solution for p in spoilt], "problem": spoilt}
        with without_rules() as careless:
            assert paid(task, "naive", careless)(**asked) == [1.0] * 13
        assert [g.score == 1.0 for g in task.grades(asked["completions"], spoilt)] == [False] * 3 + [True] * 10
        assert [p.answer for p in kernel_grpo.prompts(task, {**s, "seeded": 3}, 0)[:13]] == [p.answer for p in clean]
        assert {p.solution for p in kernel_grpo.prompts(task, s, 0)} == {""} and len(kernel_grpo.prompts(task, s, 0)) == 16


def test_a_warm_policy_is_measured_once(monkeypatch):
    monkeypatch.setattr("rftlab.records.commit", lambda: "0123456789ab")
    calls = []
    monkeypatch.setattr(kernel_grpo, "measure", lambda policy, task, s: calls.append(s) or {"accuracy": len(calls)})
    monkeypatch.setattr(kernel_grpo, "samples", lambda policy, task, s: [])
    s = {**SMALL, "model": "tiny", "seed": 0, "passes": 1}
    first = kernel_grpo.before(None, None, s)
    assert kernel_grpo.before(None, None, {**s, "reward": "correct", "steps": 9, "lr": 1.0}) == first == [{"accuracy": 1}, []]
    for changed in ({"passes": 2}, {"families": ["activation"]}, {"seed": 1}, {"examples": "composed"}, {"test": 4}, {"temperature": 1.0}):
        kernel_grpo.before(None, None, {**s, **changed})  # another warm-up, or other questions
    assert len(calls) == 7


@pytest.mark.parametrize("keep", [0, 2])
@pytest.mark.parametrize("divided", [True, False])
def test_the_spread_is_divided_by_where_the_grid_says_so(monkeypatch, keep, divided):
    seen = {}
    monkeypatch.setattr(grpo, "train", lambda *args, **options: seen.update(options) or SimpleNamespace(metrics=[]))
    s = {**SMALL, "form": "program", "arm": "rft", "reward": "steep", "model": "tiny", "seed": 0, "keep": keep, "normalize_std": divided}
    kernel_grpo.rft(None, KernelWriting(None, "program"), s, s, 0)
    A = seen["advantage_fn"](torch.tensor([[0.0, 0.1, 0.2, 1.0]]))[0]
    assert A[3] == pytest.approx((1.0 - (0.5 if keep else 0.325)) / (statistics.stdev([0.0, 1.0] if keep else [0.0, 0.1, 0.2, 1.0]) if divided else 1), rel=1e-3)


def test_functions_of_the_kind_that_is_practised_and_larger_ones():
    task = KernelWriting(None)
    s = {**SMALL, "operations": 2, "larger": 5}
    sizes = [[functions.operations(task.tasks[p.answer].source) for p in drawn]
             for drawn in (kernel_measure.unseen(task, s, "test"), kernel_measure.larger(task, s), kernel_grpo.labelled(task, {**s, "examples": "composed"}))]
    assert [len(of) for of in sizes] == [3, 5, 13] and max(sizes[0] + sizes[2]) == 2 and min(sizes[1]) == 3
    assert kernel_measure.larger(task, SMALL) == [] and [p.answer for p in kernel_measure.unseen(task, SMALL, "test")] == [p.answer for p in task.test(3)]


def test_second_turns_and_second_tries_by_hand(monkeypatch):
    """A writer that knows every solution but those of two fresh functions: one it mends when told, one it samples right."""
    with KernelGrader() as grader:
        task = KernelWriting(grader)
        known = {p.prompt: p.solution for p in task.heldout() + task.test(3)}
        first, second, _ = task.test(3)

        def write(policy, prompts, group_size, max_new_tokens, temperature, **options):
            def one(prompt, i):
                asked = prompt if prompt in known else first.prompt if prompt.startswith(first.prompt) else second.prompt
                mends = prompt not in known and asked == first.prompt
                right = temperature > 0 and asked == second.prompt and i == 0
                return known[asked] if mends or right or asked not in (first.prompt, second.prompt) else "    pass"
            texts = [one(p, i) for p in prompts for i in range(group_size)]
            return Rollout(prompts, texts, *[None] * 5, group_size, 0.0)

        monkeypatch.setattr("rftlab.rollout.rollout", write)
        monkeypatch.setattr(task, "stop", lambda policy: None)
        final = kernel_measure.measure(None, task, SMALL)
    assert final["accuracy"] == [0.0, 0.0, 1.0] and final["pass@1"] == [0.0, 0.5, 1.0]  # function by function
    means = {name: round(value["mean"], 3) for name, value in kernel_measure.estimates(final).items()}
    assert (means["accuracy"], means["heldout"], means["repaired"], means["second_try"]) == (0.333, 1.0, 0.667, 0.667)
    assert (means["pass@1"], means["pass@2"]) == (0.5, 0.667)
