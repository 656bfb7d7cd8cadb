"""TRL's trainers on a model of a few thousand parameters: the independent implementation that tests compare with."""
import warnings

import pytest


def build_trainer(kind, folder, reward_func, *, prompts=3, group_size=4):
    """A real TRL trainer, "grpo" or "rloo", on CPU; skips the test where TRL is not installed."""
    trl = pytest.importorskip("trl")
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *"abcdefgh"])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, pad_token_id=0, eos_token_id=1, bos_token_id=None))
    trainer_class, config_class = {"grpo": (trl.GRPOTrainer, trl.GRPOConfig), "rloo": (trl.RLOOTrainer, trl.RLOOConfig)}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = config_class(
            output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, beta=0.0,
            per_device_train_batch_size=prompts * group_size, num_generations=group_size, max_completion_length=3)
        trainer = trainer_class(model=model, reward_funcs=reward_func, args=config, processing_class=tokenizer,
                                train_dataset=Dataset.from_dict({"prompt": ["ab"] * prompts}))
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # set by the training loop, which the tests do not run
    return trainer
