"""rftlab: reinforcement fine-tuning of language models that you can run, check and believe.

Submodules load on first use, so that `import rftlab` stays well under a second.
"""
import importlib
import os
import sys

__version__ = "0.1.0"

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_NAMES = {
    "load_policy": "models",
    "LoraSpec": "lora",
    "load_task": "tasks",
    "Problem": "tasks",
    "RunRecord": "records",
    "Estimate": "evaluate",
}
_MODULES = {
    "advantages", "advice", "bandits", "bench", "bench_turbo", "checks", "compare", "corpus", "corpus_tokens", "data", "data_check", "data_command", "data_size", "data_size_report", "decoder", "deck_claims", "deploy", "drawing", "evaluate", "experiments", "feedback", "grpo", "habits", "headline", "hub_resume", "hub_training", "install", "kernels", "logprobs", "loop",
    "lora", "losses", "machine", "memory", "models", "monitor", "nf4", "notebooks", "own_task", "packing", "plots", "pretrain", "qlora", "records", "reward_mix", "rewards",
    "rollout", "serving", "serving_guard", "sft", "significance", "size_plots", "speculative", "static_cache", "tasks", "trl_head", "trl_parity", "turbo_curve",
}


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"rftlab.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"rftlab.{_NAMES[name]}"), name)
    raise AttributeError(f"rftlab has no {name!r}; it offers {', '.join(sorted({*_MODULES, *_NAMES}))}")


def __dir__():
    return sorted({*globals(), *_MODULES, *_NAMES})


def interactive() -> bool:
    """True when a person watches: progress bars and live plots ask this, so that tests stay silent."""
    if os.environ.get("CI") or os.environ.get("RFT_PROFILE") == "ci" or "PYTEST_CURRENT_TEST" in os.environ:
        return False
    return "ipykernel" in sys.modules or sys.stderr.isatty()
