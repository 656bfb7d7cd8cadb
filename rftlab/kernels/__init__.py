"""Kernel tasks and the grader that pays for Triton kernels written by a model. Submodules load on first use."""

import importlib

_NAMES = {
    "KernelGrader": "grader",
    "Grade": "grader",
    "kernel_reward": "rewards",
    "format_reward": "rewards",
    "compile_reward": "rewards",
    "correctness_reward": "rewards",
    "KernelTask": "tasks",
    "load_kernel_tasks": "tasks",
    "lint": "task_lint",
}


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"rftlab.kernels has no {name!r}; it offers {', '.join(sorted(_NAMES))}")


def __dir__():
    return sorted({*globals(), *_NAMES})
