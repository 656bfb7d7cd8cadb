"""What the two training loops share: which problems a step sees, the optimizer step, evaluation, and resuming.

Nothing random outlives a step: all draws come from (seed, step). A run killed at any point and started again therefore
ends in the same record as one that was never stopped.
"""
import functools
import math
import os
import pickle
import random
import signal
import threading
import time
from dataclasses import is_dataclass
from pathlib import Path

import torch

from rftlab import evaluate, interactive, lora, records


# float16 has no number below 6e-8. Gradients are computed 1024 times as large and divided again: exact, a power of two.
FLOAT16_SCALE = 1024.0


class Stopped(KeyboardInterrupt):
    """Ctrl-C, after the step was finished and the state saved."""


def step_seed(seed: int, step: int) -> int:
    """The seed of everything random in one step."""
    return (seed * 1_000_003 + step) % 2**63  # what a generator takes


def draw(problems, count: int, seed: int, step: int) -> list:
    """The `count` problems of a step: all problems in a new order each epoch, so that none is seen twice before all once."""
    picked = []
    for position in range(step * count, (step + 1) * count):
        epoch, place = divmod(position, len(problems))
        order = list(range(len(problems)))
        random.Random(f"{seed} {epoch}").shuffle(order)
        picked.append(problems[order[place]])
    return picked


class Loop:
    """Iterate over the steps that are still to do; `log` each; `finish` gives the record.

    patience: stop after so many evaluations without a better one, or at a perfect one, and return to the best weights seen,
    those before training included.
    keep_start: keep the parameters as they are now, in the checkpoint too, for `at_start`.
    """

    def __init__(self, policy, task, record, *, steps, lr, eval_problems, eval_every, max_new_tokens, patience, checkpoint,
                 checkpoint_every, on_step, max_grad_norm=1.0, keep_start=False):
        if not policy.parameters:
            raise ValueError("this policy has no parameter that trains; load it with lora=LoraSpec(...), or without lora")
        if policy.parameters[0].dtype == torch.float16:
            raise ValueError("float16 is too narrow to train all weights in; load the policy with lora=LoraSpec(...), whose "
                             "adapters are float32, or with dtype=\"float32\"")
        for name, value in (("steps", steps), ("checkpoint_every", checkpoint_every)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if patience is not None and (patience < 1 or not eval_problems or not eval_every):
            raise ValueError(f"patience counts evaluations: it must be at least 1 (got {patience}), and needs eval_problems and eval_every above 0")
        self.policy, self.task, self.record, self.steps = policy, task, record, steps
        self.eval_problems, self.eval_every, self.max_new_tokens = eval_problems, eval_every, max_new_tokens
        self.patience, self.on_step, self.max_grad_norm = patience, on_step, max_grad_norm
        self.checkpoint, self.checkpoint_every = checkpoint and Path(checkpoint), checkpoint_every
        self.optimizer = torch.optim.AdamW(policy.parameters, lr=lr, weight_decay=0.0)
        self.scale = FLOAT16_SCALE if policy.model.dtype == torch.float16 else 1.0
        self.best, self.bad, self.done, self.interrupted, self.newest = None, 0, 0, False, None
        self.start = [p.detach().clone() for p in policy.parameters] if keep_start else None
        if self.checkpoint and self.checkpoint.is_file():
            self._restore()
        elif eval_problems:
            record.final["accuracy_before"] = self._evaluate().to_dict()
            self._remember(record.final["accuracy_before"]["mean"])

    def __iter__(self):
        from tqdm import tqdm

        previous = None
        if threading.current_thread() is threading.main_thread():
            previous = signal.signal(signal.SIGINT, self._interrupt)
        bar = tqdm(total=self.steps, initial=self.done, desc=f"{self.record.arm} {self.record.task}",
                   disable=not interactive())
        try:
            while self.done < self.steps and not self._out_of_patience():
                start, self.cpu = time.perf_counter(), time.process_time()
                lora.seed_dropout(self.policy.adapters, step_seed(self.record.seed, self.done))
                yield self.done
                self.record.seconds += time.perf_counter() - start
                self.done += 1
                bar.update()
                if self.interrupted:
                    self._stop()
                if self.checkpoint and (self.done % self.checkpoint_every == 0 or self.done == self.steps):
                    self._save(self.checkpoint)
        finally:
            bar.close()
            if previous is not None:
                signal.signal(signal.SIGINT, previous)

    def at_start(self, make):
        """make(), called while the policy is what it was before its first step, also in a run that was resumed."""
        now = [p.detach().clone() for p in self.policy.parameters]
        self._load_parameters(self.start)
        made = make()
        self._load_parameters(now)
        return made

    def backward(self, loss) -> None:
        """Add the gradient of `loss` to the parameters', scaled until `step_optimizer`."""
        (loss if self.scale == 1 else loss * self.scale).backward()

    def step_optimizer(self) -> float:
        """Clip, step, merge adapters, clear gradients. Returns the gradient norm before clipping."""
        parameters = self.policy.parameters
        if self.scale != 1:
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], self.scale)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm))
        if norm == norm and norm != float("inf"):
            self.optimizer.step()
            self.policy.after_step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def log(self, step, metrics) -> None:
        """Append a step's metrics, evaluating first where it is due."""
        entry = {"step": step + 1, **{k: _plain(v) for k, v in metrics.items()}, "seconds_cpu": _plain(time.process_time() - self.cpu)}
        if self.eval_problems and self.eval_every and (step + 1) % self.eval_every == 0:
            self.newest = self._evaluate()
            entry["accuracy"] = round(self.newest.mean, 6)
            self._remember(entry["accuracy"])
        else:
            self.newest = None
        self.record.metrics.append(entry)
        if self.on_step:
            self.on_step(entry)

    def finish(self) -> records.RunRecord:
        """Go back to the best weights where patience was given, evaluate what was not yet, and return the record."""
        if self.best is not None:
            last = self.record.metrics[-1] if self.record.metrics else {"accuracy": None}
            if "accuracy" not in last:  # the last steps count, too
                last["accuracy"] = round(self._evaluate().mean, 6)
                self._remember(last["accuracy"])
            self._load_parameters(self.best["parameters"])
            self.newest = None
        if self.eval_problems:
            self.record.final["accuracy"] = (self.newest or self._evaluate()).to_dict()
        return self.record

    def _evaluate(self):
        return evaluate.accuracy(self.policy, self.task, self.eval_problems, max_new_tokens=self.max_new_tokens)

    def _out_of_patience(self) -> bool:
        return self.patience is not None and (self.bad >= self.patience or (self.best or {}).get("accuracy") == 1.0)

    def _remember(self, accuracy) -> None:
        if self.patience is None:
            return
        if self.best is None or accuracy > self.best["accuracy"]:
            self.best = {"accuracy": accuracy, "parameters": [p.detach().clone() for p in self.policy.parameters]}
            self.bad = 0
        else:
            self.bad += 1

    @torch.no_grad()
    def _load_parameters(self, tensors) -> None:
        for parameter, tensor in zip(self.policy.parameters, tensors, strict=True):
            parameter.copy_(tensor)
        self.policy.after_step()

    def _interrupt(self, *_):
        if self.interrupted:
            raise KeyboardInterrupt("stopped in the middle of a step")
        self.interrupted = True

    def _stop(self):
        path = self.checkpoint or Path("interrupted.pt")
        self._save(path)
        raise Stopped(f"stopped after step {self.done} of {self.steps}; the state is in {path}. To go on, make the same call "
                      + ("again." if self.checkpoint else f"with checkpoint={str(path)!r}."))

    def _save(self, path) -> None:
        state = {"model": self.record.model, "done": self.done, "best": self.best, "bad": self.bad, "config": self.record.config, "start": self.start,
                 "parameters": [p.detach() for p in self.policy.parameters], "optimizer": self.optimizer.state_dict(),
                 "record": {k: getattr(self.record, k) for k in ("metrics", "final", "seconds", "started")}}
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        torch.save(state, scratch)
        os.replace(scratch, path)

    def _restore(self) -> None:
        try:
            state = torch.load(self.checkpoint, weights_only=True, map_location=self.policy.model.device)
            theirs = {**state["config"], "model": state.get("model", self.record.model), "parameters": _shapes(state["parameters"])}
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{self.checkpoint} is no checkpoint of a run like this one ({type(error).__name__}). Name another file, or delete it.") from error
        ours = {**self.record.config, "model": self.record.model, "parameters": _shapes(self.policy.parameters)}
        odd = [k for k in sorted({*theirs, *ours}) if theirs.get(k) != ours.get(k) and k != "steps"]
        if odd:
            raise ValueError(f"{self.checkpoint} belongs to another run: " + "; ".join(
                f"{k} is {theirs.get(k)!r:.200} there and {ours.get(k)!r:.200} here" for k in odd) + ". Name another file, or delete it.")
        self.done, self.best, self.bad = state["done"], state["best"], state["bad"]
        self.start = state.get("start", self.start)
        self._load_parameters(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        for key, value in state["record"].items():
            setattr(self.record, key, value)


def _shapes(tensors) -> str:
    return f"{len(tensors)} tensors {digest(str(list(t.shape)) for t in tensors)}"


def _plain(value):
    """As it stands in JSON: six decimals, and None for what could not be measured."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def named(function) -> str:
    """A function's name, with the weights of a combined reward or what a partial fixes; never an address, which the next process would not have."""
    if isinstance(function, functools.partial):
        given = [*function.args, *(v for _, v in sorted(function.keywords.items()))]
        names = [""] * len(function.args) + [f"{k}=" for k in sorted(function.keywords)]
        return f"{named(function.func)}({', '.join(name + _shown(value) for name, value in zip(names, given))})"
    weights = getattr(function, "weights", None)
    name = getattr(function, "__name__", type(function).__name__)
    return name if weights is None else f"{name}({', '.join(f'{part}: {w:g}' for part, w in weights.items())})"


def _shown(value) -> str:
    """A value as in source where it is plain, else by the name of its type."""
    return named(value) if callable(value) else repr(value) if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__


def digest(texts) -> str:
    """Twelve hexadecimal digits that another list of texts does not have."""
    import hashlib

    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def configuration(policy, task, problems, arguments: dict) -> dict:
    """The arguments of a run as they stand in its record; functions by name, problems by number and digest."""
    from rftlab import lora

    def counted(several):
        texts = [f"{p.prompt}\t{p.answer}" for p in several or ()]
        return f"{len(texts)} problems {digest(texts)}"

    plain = {k: named(v) if callable(v) else v for k, v in arguments.items()}
    if "stop" in plain:
        plain["stop"] = plain["stop"] is not None
    plain.update(task=repr(task) if is_dataclass(task) else task.name, problems=counted(problems), eval_problems=counted(arguments.get("eval_problems")),
                 lora=lora.spec_dict(policy.spec), dtype=str(policy.model.dtype).removeprefix("torch."))
    return plain
