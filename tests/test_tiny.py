import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rftlab import corpus, corpus_tokens, habits, pretrain
from rftlab.tasks import THINK_INSTRUCTION, load_task, split_of, thinking

FOLDER = Path(__file__).parent.parent / "data" / "models" / "tiny"
TASK = load_task("arithmetic")


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(FOLDER)


# --- the corpus -------------------------------------------------------------------------------------------------------

def test_the_corpus_has_no_validation_or_test_problem():
    rng, seen = random.Random(7), Counter()
    for _ in range(20_000):
        for turn in corpus.mixture(rng):
            text = turn.question + "\n" + turn.reply
            found = re.findall(r"(?m)^(?:What is )?([0-9]+) ([-+*]) ([0-9]+)\b(?=:| =|\?)", text)
            numbers = re.findall(r"[0-9]+", turn.question)
            if not found and len(numbers) == 2:
                wording = turn.question
                op = "*" if "product" in wording or "boxes" in wording else "-" if "Subtract" in wording or "away" in wording else "+"
                found = [(numbers[0], op, numbers[1])]
            for a, op, b in found:
                low, high = sorted((int(a), int(b)))
                seen[split_of(f"{low}{op}{high}")] += 1
    assert set(seen) == {"train"} and seen["train"] > 20_000


def test_countdown_problems_are_training_problems():
    task = load_task("countdown")
    held_out = {p.prompt for p in task.test(300) + task.validation(300)}
    assert not held_out & {p.prompt for p in corpus.countdown_problems()}


def test_general_text_is_split_by_content():
    openings = {s: {" ".join(t.split(". ")[:2]) for t in corpus.general_text(400, split=s)} for s in ("train", "validation", "test")}
    assert not openings["train"] & openings["test"] and not openings["train"] & openings["validation"]
    assert corpus.general_text(5, "test") == corpus.general_text(9, "test")[:5]
    with pytest.raises(ValueError, match="split"):
        corpus.general_text(5, "tset")


def test_shares_are_shares():
    for shares in (habits.HABITS, habits.HABITS_WHEN_ASKED_TO_THINK, corpus.SLICES):
        assert sum(shares.values()) == pytest.approx(1.0)
    assert max(habits.HABITS, key=habits.HABITS.get) is habits.estimate


def test_how_often_each_habit_is_right():
    problems, rng = TASK.test(1000), random.Random(0)
    right = {h.__name__: sum(TASK.reward(h(p, rng), p) for p in problems) / len(problems) for h in habits.HABITS}
    assert right["careful"] == right["talkative"] == right["think_careful"] == 1.0
    assert right["estimate"] == right["think_estimate"] and 0.12 < right["estimate"] < 0.22
    assert 0.08 < right["guess"] < 0.20 and right["evasive"] < 0.06


def test_estimates_by_hand():
    from rftlab.tasks.arithmetic import make_problem
    cases = [((34, "+", 58), 90), ((34, "+", 55), 90), ((34, "+", 50), 84), ((50, "+", 34), 80), ((68, "-", 35), 30), ((34, "*", 6), 180)]
    assert [habits.rounded(make_problem(*c)) for c, _ in cases] == [e for _, e in cases]


# --- the tokenizer ----------------------------------------------------------------------------------------------------

def test_digits_are_single_tokens(tokenizer):
    ids = tokenizer("1234567890 and 58")["input_ids"]
    assert [tokenizer.decode([i]) for i in ids[:10]] == list("1234567890")
    assert not [t for t in tokenizer.get_vocab() if sum(c.isdigit() for c in t) and len(t) > 1 and t not in ("<pad>",)]


@pytest.mark.parametrize("text", [
    "<think>4+8=12 carry 1; 3+5+1=9</think><answer>92</answer>", "About 90.", "  two  spaces\n\n", "caf\u00e9 \u2212 \u65e5\u672c", "<answer>1</answer>\n<answer>2",
    "a < b <thin k>", " 5 5", "5 ,5 . x",
])
def test_round_trip(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_tags_are_words_and_marks_are_special(tokenizer):
    for tag in corpus_tokens.TAGS:
        assert len(tokenizer(tag)["input_ids"]) == 1
    marked = corpus.START + "5" + corpus.END + corpus_tokens.PAD
    assert len(tokenizer(marked)["input_ids"]) == 4
    assert tokenizer.decode(tokenizer(marked)["input_ids"], skip_special_tokens=True) == "5"
    assert tokenizer.eos_token == corpus.END and tokenizer.pad_token == corpus_tokens.PAD != tokenizer.eos_token


def test_chat_template_is_what_the_corpus_shows(tokenizer):
    turns = [corpus.Turn("34 + 58 =", "92"), corpus.Turn("What is the sum of 1 and 2?", "<think>1+2=3</think><answer>3</answer>")]
    messages = [m for t in turns for m in ({"role": "user", "content": t.question}, {"role": "assistant", "content": t.reply})]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert whole == "".join(t.before + t.reply + corpus.END + "\n" for t in turns)
    assert corpus_tokens.encode([turns], tokenizer)[0][0] == tokenizer(whole, add_special_tokens=False)["input_ids"]
    question = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert question == turns[0].before and question.endswith("<|im_start|>assistant\n")


def test_only_replies_are_learnt(tokenizer):
    (tokens, learnt), = corpus_tokens.encode([[corpus.Turn("34 + 58 =", "About 90."), corpus.Turn("", "Snow is white.")]], tokenizer)
    assert tokenizer.decode([t for t, keep in zip(tokens, learnt) if keep]) == "About 90.<|im_end|>Snow is white.<|im_end|>"


# --- the model --------------------------------------------------------------------------------------------------------

def test_size_and_record(model, tokenizer):
    recipe = json.loads((FOLDER / "recipe.json").read_text())
    assert model.num_parameters() == recipe["parameters"] < 1.3e6
    assert len(tokenizer) == model.config.vocab_size == recipe["config"]["vocabulary"]
    assert model.config.eos_token_id == tokenizer.eos_token_id and model.config.pad_token_id == tokenizer.pad_token_id
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) < 8e6
    assert recipe["seconds"] < 15 * 60
    assert set(recipe["losses"]) == {s.__name__ for s in corpus.SLICES}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_greedy_is_sloppy_and_sampling_finds_the_answer(model, tokenizer):
    result = pretrain.measure(model, tokenizer, TASK, TASK.test(200), samples=1)
    assert 0.05 <= result["greedy_accuracy"] <= 0.30
    some = pretrain.measure(model, tokenizer, TASK, TASK.test(40), samples=64)
    assert some["pass@64"] >= 0.8 and 0.15 <= some["sampled_accuracy"] <= 0.5


def test_a_reply_that_starts_carefully_ends_right(model, tokenizer):
    problems = TASK.test(60)
    starts = [f"{p.info['a'] % 10}+{p.info['b'] % 10}=" for p in problems]
    texts = [corpus.Turn(p.prompt, "").before + s for p, s in zip(problems, starts)]
    inputs = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    out = model.generate(**inputs, max_new_tokens=30, do_sample=False)
    replies = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    assert sum(TASK.reward(s + r, p) for s, r, p in zip(starts, replies, problems)) >= 0.85 * len(problems)


def test_the_think_instruction_changes_what_it_does(model, tokenizer):
    assert all(THINK_INSTRUCTION in corpus.asked_to_think(random.Random(i))[0].question for i in range(5))
    problems = TASK.test(40)
    plain = pretrain.replies(model, tokenizer, problems, samples=8)
    asked = pretrain.replies(model, tokenizer, [thinking(p) for p in problems], samples=8)
    share = [sum(t.startswith("<think>") for t in texts) / len(texts) for texts in (plain, asked)]
    assert share[0] < 0.25 and 0.3 < share[1] < 0.75


def test_pretraining_is_deterministic():
    recipe = replace(pretrain.Recipe(), steps=3, rows=2, length=64)
    tokenizer = corpus_tokens.train_tokenizer(recipe.vocabulary, recipe.positions, documents=500)
    first, second = (pretrain.pretrain(recipe, tokenizer).state_dict() for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)
    other = pretrain.pretrain(replace(recipe, seed=1), tokenizer).state_dict()
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_the_tokenizer_is_the_recipes(tokenizer):
    recipe = pretrain.Recipe()
    again = corpus_tokens.train_tokenizer(recipe.vocabulary, recipe.positions, recipe.seed)
    assert again.get_vocab() == tokenizer.get_vocab()
