"""The same tasks, rewards and problems through the libraries that everybody uses: TRL's trainers, with or without Unsloth.

    policy = hub_training.load("tiny", method="lora")
    trainer = hub_training.grpo_trainer(policy, rewards.verifier(task), task.train(16), steps=20)
    trainer.train()
    policy.generate(["What is 34 + 58?"])

Unsloth is taken where it can be imported; on a CPU it has a back end of its own, which is stock transformers, PEFT and TRL with
other defaults. RFTLAB_BACKEND=transformers goes without. What differs from TRL's defaults, and why: a constant learning rate and no
weight decay (as `rftlab.grpo`), clip_high 0.28 (DAPO), no gradient checkpointing on a CPU, and nothing is reported or downloaded.
"""
import contextlib
import functools
import importlib.util
import io
import os
import sys
import warnings
from dataclasses import asdict, dataclass

import rftlab
from rftlab import machine, models, reward_check

METHODS = ("full", "lora", "qlora")
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # all of them: attention alone is worse
# What a model's generation_config may ask for and `generate` must not do: the answers are the greedy ones, or draws at the temperature.
PLAIN = {"num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0,
         "encoder_no_repeat_ngram_size": 0, "min_length": 0, "return_dict_in_generate": False,
         **dict.fromkeys(("min_new_tokens", "max_time", "stop_strings", "bad_words_ids", "sequence_bias", "suppress_tokens",
                          "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty",
                          "guidance_scale", "watermarking_config", "token_healing", "penalty_alpha", "dola_layers", "constraints",
                          "force_words_ids", "prompt_lookup_num_tokens", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"))}
PRECISION = {"cpu": {"use_cpu": True, "bf16": False}, "t4": {"fp16": True, "bf16": False}, "h100": {"bf16": True}}


@functools.cache
def backend() -> str:
    """"unsloth" where it imports, else "transformers". $RFTLAB_BACKEND overrides. Call it before transformers is used."""
    asked = os.environ.get("RFTLAB_BACKEND", "")
    if asked not in ("", "unsloth", "transformers"):
        raise ValueError(f"RFTLAB_BACKEND={asked!r}; expected unsloth or transformers")
    if asked != "transformers":
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")  # it would send them
        try:
            with _quiet():
                import unsloth  # noqa: F401
            return "unsloth"
        except (ImportError, NotImplementedError, RuntimeError) as error:
            if asked:
                raise ValueError(f"RFTLAB_BACKEND=unsloth, but it cannot be imported: {error}\n{machine.INSTALL_UNSLOTH}") from error
    return "transformers"


@dataclass
class HubPolicy(models.Policy):
    """A policy whose model transformers' own `generate` runs, adapters and quantisation included."""

    method: str = "lora"
    backend: str = "transformers"

    def generate(self, prompts, max_new_tokens=32, temperature=0.0, seed=0, batch=64) -> list[str]:
        """One completion for each prompt; greedy at temperature 0, whatever the model's generation_config says. ValueError for no prompts."""
        import torch

        if isinstance(prompts, str) or not len(prompts):
            raise ValueError(f"prompts must be a non-empty list of questions, got {prompts!r}")
        texts, training = [], self.model.training
        self.model.eval()
        torch.manual_seed(seed)
        how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
        for first in range(0, len(prompts), batch):
            ids, mask = self.encode(prompts[first:first + batch])
            with torch.no_grad():
                out = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, use_cache=True,
                                          pad_token_id=self.pad_id, eos_token_id=sorted(self.end_ids), **PLAIN, **how)
            texts += self.tokenizer.batch_decode(out[:, ids.shape[1]:], skip_special_tokens=True)
        self.model.train(training)
        return texts

    def save(self, folder) -> None:
        """Adapters in PEFT's format, or the whole model in the place of an adapter that was there; the tokenizer beside them.

        Raises ValueError for a file, and for adapters where a whole model is.
        """
        folder = models.check_target(folder, adapters=self.method != "full")
        self.model.save_pretrained(folder)
        if self.method == "full":
            models.drop_adapter(folder)
        self.tokenizer.save_pretrained(folder)


def load(name="tiny", method="lora", rank=16, seed=0, max_length=1024) -> HubPolicy:
    """Load "tiny", "smollm2", a folder or a hub id, ready to be trained by `method`.

    full: all weights. lora: adapters of `rank`, alpha twice that, on all linear layers. qlora: the same over weights in 4 bits (NF4),
    which needs bitsandbytes. float32 on a CPU. Raises ValueError for an unknown method or model.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}; expected one of {', '.join(METHODS)}")
    if method == "qlora" and importlib.util.find_spec("bitsandbytes") is None:  # Unsloth would take 16 bits and go on
        raise ValueError("qlora needs bitsandbytes for its 4-bit weights, which is not installed: `pip install --no-deps bitsandbytes`, "
                         "or method=\"lora\"")
    kind, source = backend(), models._source(name)
    with _quiet():
        try:
            model, tokenizer = (_with_unsloth if kind == "unsloth" else _plainly)(source, method, rank, seed, max_length)
        except (OSError, ImportError, RuntimeError) as error:
            raise ValueError(f"cannot load {name!r} by {method} with {kind}: {str(error).splitlines()[0]}") from error
    if not tokenizer.chat_template:
        raise ValueError(f"{name!r} has no chat template: it is a base model; choose its instruct variant")
    tokenizer.padding_side = "left"
    return HubPolicy(str(name), model, tokenizer, folder=source, method=method, backend=kind)


def _dtype():
    import torch

    return getattr(torch, "float32" if machine.device() == "cpu" else machine.fast_dtype())


def _with_unsloth(source, method, rank, seed, max_length):
    from unsloth import FastLanguageModel

    on_cpu = machine.device() == "cpu"
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=source, max_seq_length=max_length, dtype=_dtype(), load_in_4bit=method == "qlora",
        full_finetuning=method == "full", fast_inference=False)
    if method != "full":
        model = FastLanguageModel.get_peft_model(
            model, r=rank, lora_alpha=2 * rank, lora_dropout=0.0, bias="none", target_modules=list(LINEAR), random_state=seed,
            use_gradient_checkpointing=False if on_cpu else "unsloth")
    return model, tokenizer


def _plainly(source, method, rank, seed, max_length):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    how = {}
    if method == "qlora":
        how["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=_dtype())
    model = AutoModelForCausalLM.from_pretrained(source, dtype=_dtype(), **how).to(machine.device())
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.model_max_length = min(tokenizer.model_max_length, max_length)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if method != "full":
        torch.manual_seed(seed)
        model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, bias="none",
                                                 target_modules=list(LINEAR), task_type="CAUSAL_LM"))
    return model, tokenizer


def dataset(problems, completions=False):
    """A `datasets.Dataset`: `prompt` as chat messages, `problem` for the verifier, `answer` for a reward that reads that column.

    `problem` is kept as JSON: a table of Arrow's would refuse plain prompts among chats, and give each row the columns of all others.
    completions=True: `prompt` and `completion` only, for supervised training on the solutions.
    """
    from datasets import Dataset, Features, Json, List, Value

    rows = []
    for one in problems:
        prompt = [{"role": "user", "content": one.prompt}] if isinstance(one.prompt, str) else one.prompt
        said = [{"role": "assistant", "content": one.solution or one.answer}]
        rows.append({"prompt": prompt, "completion": said} if completions else
                    {"prompt": prompt, "answer": one.answer, "problem": asdict(one)})
    if completions:
        return Dataset.from_list(rows)
    text = Value("string")
    return Dataset.from_list(rows, features=Features({"prompt": List({"role": text, "content": text}), "answer": text, "problem": Json()}))


def grpo_trainer(policy, reward_funcs, problems, *, steps, seed=0, prompts_per_step=8, group_size=8, max_new_tokens=32,
                 temperature=1.0, lr=None, kl_coef=0.0, clip_low=0.2, clip_high=0.28, callbacks=(), output="build/trl", **settings):
    """TRL's GRPOTrainer with the settings of `rftlab.grpo.train`, one optimizer step a rollout; not started yet.

    reward_funcs: one function or several, in TRL's signature, `async def` too; what they say is looked at (rftlab.reward_check).
    settings: further fields of GRPOConfig, which win. Raises ValueError for no problems, a group of one, or a reward of another form.
    """
    rftlab.grpo.check_groups(problems, group_size)
    with _quiet():
        from torch.nn import Module
        from trl import GRPOConfig, GRPOTrainer

        from rftlab.trl_head import use_plain_head_without_gpu

        use_plain_head_without_gpu()

        ours = dict(output_dir=str(output), max_steps=steps, seed=seed, num_generations=group_size, max_completion_length=max_new_tokens,
                    per_device_train_batch_size=prompts_per_step * group_size, temperature=temperature, beta=kl_coef, epsilon=clip_low,
                    epsilon_high=clip_high, loss_type="dapo")
        config = GRPOConfig(**{**ours, **_common(policy, lr), **settings})
        several = reward_funcs if isinstance(reward_funcs, (list, tuple)) else [reward_funcs]
        looked_at = [one if isinstance(one, (str, Module)) else reward_check.checked(one) for one in several]  # or a model that judges
        return _ready(GRPOTrainer(model=policy.model, reward_funcs=looked_at, args=config, train_dataset=dataset(problems),
                                  processing_class=policy.tokenizer, callbacks=list(callbacks)))


def sft_trainer(policy, problems, *, steps, seed=0, prompts_per_step=8, lr=None, callbacks=(), output="build/trl", **settings):
    """TRL's SFTTrainer on the problems' solutions (answers where there is none); not started yet.

    The prompt is not trained on; what the chat template writes after the end of the turn is, unlike in `rftlab.sft`.
    settings: further fields of SFTConfig, which win.
    """
    with _quiet():
        from trl import SFTConfig, SFTTrainer

        from rftlab.trl_head import use_plain_head_without_gpu

        use_plain_head_without_gpu()

        ours = dict(output_dir=str(output), max_steps=steps, seed=seed, per_device_train_batch_size=prompts_per_step)
        config = SFTConfig(**{**ours, **_common(policy, lr), **settings})
        return _ready(SFTTrainer(model=policy.model, args=config, train_dataset=dataset(problems, completions=True),
                                 processing_class=policy.tokenizer, callbacks=list(callbacks)))


def _common(policy, lr) -> dict:
    return {"learning_rate": lr if lr is not None else 3e-4 if policy.method == "full" else 2e-4, "lr_scheduler_type": "constant", "weight_decay": 0.0,
            "max_grad_norm": 1.0, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
            "dataloader_pin_memory": False, "gradient_checkpointing": machine.device() != "cpu", **PRECISION[machine.profile()]}


def _ready(trainer):
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # it prints every entry of the log; `rftlab.monitor` keeps them
    return trainer


@contextlib.contextmanager
def _quiet():
    """Without the banners and bars of the libraries, which name versions, threads and seconds. What they raise passes."""
    logging = sys.modules.get("transformers.utils.logging")
    with contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not rftlab.interactive():
            if logging:
                logging.disable_progress_bar()
            if "IPython" in sys.modules:
                from IPython.utils.capture import capture_output

                stack.enter_context(capture_output(stdout=False, stderr=False))  # a bar drawn as a widget is no text on stdout
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield
