import dataclasses
import functools
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rftlab
from rftlab import rewards
from rftlab.tasks import Problem

THOUGHT = "<think>7*5 is too much</think>\n<answer>3*5+7</answer>"


@pytest.fixture(scope="module")
def countdown():
    return rftlab.load_task("countdown")


@pytest.fixture(scope="module")
def problem():
    return Problem("Use 3, 5 and 7 to make 22.", "3*5+7", info={"numbers": [3, 5, 7], "target": 22})


def score(reward_fn, *completions, **columns):
    return reward_fn(prompts=["p"] * len(completions), completions=list(completions), **columns)


def as_messages(text):
    return [{"role": "assistant", "content": text}]


# --- the single rewards ---


def test_verifier_takes_problems_and_their_dicts(countdown, problem):
    fn = rewards.verifier(countdown)
    texts = ("3*5+7", "3+5+7")
    assert score(fn, *texts, problem=[problem] * 2) == [1.0, 0.0]
    assert score(fn, *texts, problem=[dataclasses.asdict(problem)] * 2) == [1.0, 0.0]


def test_verifier_survives_a_dataset(countdown):
    datasets = pytest.importorskip("datasets")
    problems = countdown.train(4)
    rows = datasets.Dataset.from_list([{"prompt": p.prompt, "problem": dataclasses.asdict(p)} for p in problems])
    column = [row["problem"] for row in rows]
    assert score(rewards.verifier(countdown), *[p.answer for p in problems], problem=column) == [1.0] * 4


@pytest.mark.parametrize(
    "text, paid",
    [
        (THOUGHT, 1.0),
        ("  <think></think><answer></answer>\n", 1.0),  # tags are all it asks for
        ("<answer>1</answer>", 0.0),
        ("<think>a</think> so <answer>1</answer>", 0.0),
        ("well <think>a</think><answer>1</answer>", 0.0),
        ("<think>a</think><answer>1</answer> done", 0.0),
        ("<answer>1</answer><think>a</think>", 0.0),
        ("<think>a</think><think>b</think><answer>1</answer>", 0.0),
        ("<think>a</think><answer>1</answer><answer>2</answer>", 0.0),
        ("<think>a<answer>1</answer></think>", 0.0),
        ("<think><answer></think>1</answer>", 0.0),
        ("<think>a</think><answer>1", 0.0),
        ("</think><think><answer></answer>", 0.0),
        ("", 0.0),
    ],
)
def test_think_format(text, paid):
    assert score(rewards.think_format, text) == [paid]


def test_number_only_pays_wrong_numbers_and_nothing_else():
    numbers, others = ("92", " -7\n", "3.5", "000"), ("", "92.", "the answer is 92", "3*5+7", "٣", "1e5", "9 2")
    assert score(rewards.number_only, *numbers) == [1.0] * len(numbers)
    assert score(rewards.number_only, *others) == [0.0] * len(others)


def test_brevity_by_hand():
    fn = rewards.brevity(10)
    assert score(fn, "", "x" * 10, "x" * 15, "x" * 20, "x" * 99) == [1.0, 1.0, 0.5, 0.0, 0.0]
    tokens = rewards.brevity(2, unit="tokens")
    assert score(tokens, "long text, few tokens", "b", completion_ids=[[5, 6], [1, 2, 3]]) == [1.0, 0.5]


def test_brevity_is_dapos_overlong_punishment_plus_one():
    trl_rewards = pytest.importorskip("trl.rewards")
    punish = trl_rewards.get_soft_overlong_punishment(max_completion_len=20, soft_punish_cache=10)
    ids = [[0] * length for length in range(30)]
    expected = [value + 1 for value in punish(completion_ids=ids)]
    assert score(rewards.brevity(10, "tokens"), *["x"] * 30, completion_ids=ids) == pytest.approx(expected)


def test_diversity_by_hand():
    # Trigrams of "abcd" are abc, bcd; of "bcde": bcd, cde; one of the three is shared, so the distance is 2/3.
    assert score(rewards.diversity, "abcd", "bcde") == pytest.approx([2 / 3, 2 / 3])
    assert score(rewards.diversity, "abcd", "abcd", "wxyz") == pytest.approx([0.5, 0.5, 1.0])
    assert score(rewards.diversity, "", "") == [0.0, 0.0]
    assert score(rewards.diversity, "alone") == [0.0]


def test_diversity_groups_by_equal_prompts_in_any_order():
    asked = [as_messages("q1"), as_messages("q2"), as_messages("q1"), as_messages("q2")]
    assert rewards.diversity(asked, ["same", "same", "same", "else"]) == [0.0, 1.0, 0.0, 1.0]
    assert rewards.diversity(["q1", "q1"], ["same", "same"]) == [0.0, 0.0]


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=8), st.randoms())
def test_diversity_is_bounded_and_ignores_the_order(texts, rng):
    values = score(rewards.diversity, *texts)
    assert all(0.0 <= value <= 1.0 for value in values)
    order = list(range(len(texts)))
    rng.shuffle(order)
    assert score(rewards.diversity, *[texts[i] for i in order]) == pytest.approx([values[i] for i in order])


def test_random_reward_is_seeded_and_blind_to_the_text():
    first, again, other = (rewards.random_reward(seed) for seed in (1, 1, 2))
    texts = ["same"] * 2000
    draws = score(first, *texts)
    assert draws == score(again, *texts) != score(other, *texts)
    assert draws != score(first, *texts)  # a new draw at each call: nothing that could be learned
    assert set(draws) == {0.0, 1.0} and abs(sum(draws) / 2000 - 0.5) < 0.05
    assert sum(score(rewards.random_reward(0, probability=0.1), *texts)) / 2000 < 0.15


def test_constant():
    assert score(rewards.constant(0.25), "a", "b") == [0.25, 0.25]


# --- combining ---


def test_combine_is_the_weighted_sum_and_keeps_the_parts(countdown, problem):
    fn = rewards.combine({rewards.verifier(countdown): 1.0, rewards.think_format: 0.2, rewards.brevity(10): -0.1})
    logged = {}
    columns = {"problem": [problem] * 2, "log_metric": logged.__setitem__}
    assert score(fn, THOUGHT, "1", **columns) == pytest.approx([1.0 + 0.2 - 0.0, -0.1])
    assert fn.parts(["p"] * 2, [THOUGHT, "1"], problem=[problem] * 2) == {
        "verifier": [1.0, 0.0],
        "think_format": [1.0, 0.0],
        "brevity": [0.0, 1.0],
    }
    assert fn.weights == {"verifier": 1.0, "think_format": 0.2, "brevity": -0.1}
    assert logged == {
        "reward_parts/verifier": 0.5,
        "reward_parts/think_format": 0.5,
        "reward_parts/brevity": 0.5,
    }


def test_combine_takes_pairs_partials_and_other_combinations():
    def scaled(prompts, completions, by=1.0, **columns):
        return [by] * len(completions)

    inner = rewards.combine([(rewards.constant(2.0), 3.0)])
    fn = rewards.combine([(inner, 0.5), (functools.partial(scaled, by=4.0), 1.0)])
    assert score(fn, "a") == [7.0]
    assert list(fn.weights) == ["Combined", "scaled"]
    logged = {}
    score(fn, "a", log_metric=logged.__setitem__)
    assert logged["reward_parts/constant"] == 2.0 and logged["reward_parts/Combined"] == 6.0


def test_a_part_that_does_not_know_makes_the_sum_unknown():
    def sometimes(prompts, completions, **columns):
        return [None, 1.0]

    logged = {}
    fn = rewards.combine({sometimes: 1.0, rewards.constant(1.0): 1.0})
    assert score(fn, "a", "b", log_metric=logged.__setitem__) == [None, 2.0]
    assert logged["reward_parts/sometimes"] == 1.0


def test_combine_rejects_no_parts_and_equal_names():
    with pytest.raises(ValueError, match="at least one"):
        rewards.combine({})
    with pytest.raises(ValueError, match=r"fn.__name__"):
        rewards.combine([(rewards.brevity(5), 1.0), (rewards.brevity(9), 1.0)])


# --- every one of them ---


def everything(countdown):
    parts = [
        rewards.verifier(countdown),
        rewards.think_format,
        rewards.number_only,
        rewards.brevity(10),
        rewards.diversity,
        rewards.random_reward(0),
        rewards.constant(),
    ]
    return [*parts, rewards.combine([(part, 1.0) for part in parts])]


@pytest.mark.parametrize("conversational", [False, True], ids=["strings", "messages"])
def test_all_of_them_run_inside_trl(countdown, problem, conversational):
    """Goes through GRPOTrainer's own `_calculate_rewards`, with only the attributes that it reads."""
    trl = pytest.importorskip("trl")
    functions = everything(countdown)
    completions = [THOUGHT, "3*5+7", "22", "no idea"]
    prompts = [problem.prompt] * 4
    if conversational:
        prompts = [[{"role": "user", "content": prompt}] for prompt in prompts]
        completions = [as_messages(text) for text in completions]
    logged = {}
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu", is_main_process=True),
        reward_funcs=functions,
        reward_processing_classes=[None] * len(functions),
        reward_func_names=[trl.trainer.utils.get_callable_name(fn) for fn in functions],
        args=SimpleNamespace(report_to=[]),
        state=SimpleNamespace(global_step=0),
        environments=None,
        _log_completion_extra=lambda column, values: None,
        _log_metric=logged.__setitem__,
    )
    inputs = [{"prompt": prompt, "problem": dataclasses.asdict(problem)} for prompt in prompts]
    ids = [[1, 2, 3]] * 4
    table = trl.GRPOTrainer._calculate_rewards(trainer, inputs, prompts, completions, ids)
    assert table.shape == (4, 8) and not table.isnan().any()
    assert table[:, 0].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert table[:, 1].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert table[:, 2].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert logged["reward_parts/verifier"] == 0.5
    assert trainer.reward_func_names[0] == "verifier" and trainer.reward_func_names[-1] == "Combined"


def test_all_of_them_reject_unequal_lengths(countdown, problem):
    for fn in everything(countdown):
        with pytest.raises(ValueError, match="one entry for each completion"):
            fn(["p"], ["a", "b"], problem=[problem] * 2)
        with pytest.raises(ValueError, match="one string"):
            fn("p", ["a"], problem=[problem])
        with pytest.raises(ValueError, match="content"):
            fn(["p"], [None], problem=[problem])
        with pytest.raises(ValueError, match="content"):
            fn(["p"], [[{"role": "assistant"}]], problem=[problem])
    with pytest.raises(ValueError, match="problem is a list of 1"):
        score(rewards.verifier(countdown), "a", "b", problem=[problem])
    with pytest.raises(ValueError, match="dataclasses.asdict"):
        score(rewards.verifier(countdown), "a")
    with pytest.raises(ValueError, match="completion_ids"):
        score(rewards.brevity(3, "tokens"), "a")


def test_a_part_of_the_wrong_length_is_named():
    def short(prompts, completions, **columns):
        return [1.0]

    with pytest.raises(ValueError, match="'short' returned 1 rewards for 2"):
        score(rewards.combine({short: 1.0}), "a", "b")


def test_bad_settings():
    for bad in (lambda: rewards.brevity(0), lambda: rewards.brevity(5, "words"), lambda: rewards.random_reward(0, 1.5)):
        with pytest.raises(ValueError, match="expected"):
            bad()


def test_last_message_counts():
    turns = [*as_messages("22"), *as_messages("in words")]
    assert rewards.number_only(["p"], [turns]) == [0.0]
