"""From the corpus to tensors: the tokenizer of the tiny model, and batches of its token ids."""

from __future__ import annotations

import random

import torch

from rftlab import corpus

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
PAD = "<pad>"
# One token a digit; a space goes to the word or sign behind it, or, before a digit, to the one in front of it.
PIECES = r"[0-9]|\n| ?[A-Za-z]+(?: (?=[0-9]))?| ?[^A-Za-z0-9\s]+(?: (?=[0-9]))?|\s"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(vocabulary: int, positions: int, seed: int = 0, documents: int = 20_000):
    """A byte-level BPE tokenizer (Sennrich et al., 2016) with `vocabulary` tokens, trained on the corpus."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(f"tokenizer {seed}")
    texts = ["user\nassistant\n" + t.question + "\n" + t.reply for _ in range(documents) for t in corpus.mixture(rng)]
    special = [PAD, corpus.START, corpus.END]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    bpe.decoder = decoders.ByteLevel()
    # The tags come from `add_tokens`: they are not special, so that decoding with skip_special_tokens keeps them.
    bpe.train_from_iterator((t for text in texts for t in _without_tags(text)), trainers.BpeTrainer(
        vocab_size=vocabulary - len(TAGS), special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    bpe.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=corpus.END, pad_token=PAD, additional_special_tokens=[corpus.START],
        clean_up_tokenization_spaces=False, padding_side="left", model_max_length=positions)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _without_tags(text: str) -> list[str]:
    for tag in TAGS:
        text = text.replace(tag, "\0")
    return text.split("\0")


def encode(documents, tokenizer) -> list[tuple[list[int], list[bool]]]:
    """Token ids of each document, and which of them are learnt: the replies and their end marks."""
    parts = [part for turns in documents for t in turns for part in (t.before, t.reply + corpus.END, "\n")]
    ids = iter(tokenizer(parts, add_special_tokens=False)["input_ids"])
    encoded = []
    for turns in documents:
        tokens, learnt = [], []
        for _ in turns:
            for is_reply in (False, True, False):
                piece = next(ids)
                tokens += piece
                learnt += [is_reply] * len(piece)
        encoded.append((tokens, learnt))
    return encoded


def batch(rng: random.Random, tokenizer, rows: int, length: int, draw=corpus.mixture):
    """Input ids and the mask of learnt tokens, both (rows, length). A row is filled with documents, the last is cut."""
    ids, masks = [], []
    for _ in range(rows):
        tokens, learnt = [], []
        while len(tokens) < length:
            for more, more_learnt in encode([draw(rng) for _ in range(4)], tokenizer):
                tokens += more
                learnt += more_learnt
        ids.append(tokens[:length])
        masks.append(learnt[:length])
    return torch.tensor(ids), torch.tensor(masks)
