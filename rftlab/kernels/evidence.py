"""What a child tells about a program's run: what it launched, what torch did meanwhile, what the sanitizer saw, and whether the order matters.

For the parent these are notes of a process that ran a stranger's program; see `child`.
"""

import json
from collections import Counter

from rftlab.kernels.facts import encode

MAX_LAUNCHES = 64  # that differ in kernel, types or constants


class Evidence:
    """Runs the program's function and notes what it launched, what torch did, and what the sanitizer saw."""

    def __init__(self, job: dict, note):
        from rftlab.kernels import provenance

        self.order, self.note, self.launches, self.atomics = job["order"], note, set(), False
        self.log = provenance.TorchLog()
        self.log.__enter__()  # for the rest of this process's life: entering and leaving takes longer than logging

    def call(self, function, inputs: list, case: int, stores: bool = True, backwards: bool = False, configuration: int | None = None):
        """Call the function on one case's inputs; the evidence goes to the notes even when it raises.

        stores: False suppresses those of kernels. backwards: runs the programs of each launch in the opposite of the usual order.
        configuration: of autotune, with none tried before; usually the case's own.
        """
        import torch

        from rftlab.kernels import interpreter, operations, provenance

        state, programs, self.seen = interpreter.state, [], []
        state.case, state.backwards, operations.stores = case if configuration is None else configuration, backwards, stores
        state.configurations, state.tuned = 1, configuration is not None
        state.order.seed(f"{self.order} {case}")

        def on_launch(kernel, arguments, options, grid, sanitizer):
            programs.append(grid[0] * grid[1] * grid[2])
            self.seen.append(sanitizer)
            self.remember(kernel, arguments, options, state.trial)

        state.on_launch = on_launch
        self.log.watch(inputs)
        try:
            result = function(*inputs)
        finally:
            self.log.watching = False
            self.configurations = state.configurations
            self.atomics |= any(sanitizer.latest for sanitizer in self.seen)
            if stores:
                self.report(case, programs)
        for answer in result if isinstance(result, (tuple, list)) else [result]:
            if stores and type(answer) is torch.Tensor and provenance.picks_or_rearranges(answer, inputs, answer is result):
                self.note(torch=["view", 0, "the result is a view that picks from, repeats or rearranges what kernels stored"])
        return result

    def report(self, case, programs) -> None:
        total = sum((sanitizer.findings for sanitizer in self.seen), start=Counter())
        self.note(case=case, programs=programs[:MAX_LAUNCHES], findings=dict(total))
        for operation, line, why in dict.fromkeys(self.log.found[:20]):
            self.note(torch=[operation, line, why])

    def differs(self, answers: list, function, inputs: list, case: int, **otherwise) -> bool:
        """Whether a case comes out otherwise than `answers` when it is called otherwise. Adding up in another order may move the last digits."""
        try:
            result = self.call(function, inputs, case, **otherwise)
        except Exception:
            return True
        return not all(map(close, answers, result if isinstance(result, (tuple, list)) else [result]))

    def remember(self, kernel, arguments, options, trial: bool) -> None:
        """Note what is needed to compile a launch, once for each different one. trial: autotune may drop it, if it does not fit a GPU."""
        from rftlab.kernels import interpreter

        signature = {}
        for parameter in interpreter.parameters(kernel):
            value = arguments[parameter.name]
            constant = parameter.is_constexpr or interpreter.becomes_constant(parameter, value)
            kind = "constexpr" if constant else parameter.annotation_type or interpreter.specialization(value)
            if isinstance(kind, str) and kind.startswith("*") and kind.replace("*k", "*") != str(interpreter.specialization(value)).replace("*k", "*"):
                raise TypeError(f"{parameter.name} is annotated {kind}, and {interpreter.specialization(value)} is passed")
            if "constexpr" in str(kind) and kind != "constexpr":
                raise TypeError(f"{parameter.name}: a tuple of arguments may hold tensors and numbers only")
            signature[parameter.name] = {"constant": encode(value)} if kind == "constexpr" else kind
        launch = {"kernel": kernel.__name__, "signature": signature, "options": {k: encode(v) for k, v in options.items()}}
        key = json.dumps([launch, trial])
        if key not in self.launches and len(self.launches) <= MAX_LAUNCHES:
            self.launches.add(key)
            self.note(launch=launch, trial=trial)


def close(answer, other) -> bool:
    """Whether two tensors are the same, but for rounding."""
    import torch

    if type(other) is not torch.Tensor or other.shape != answer.shape:
        return False
    if not answer.is_floating_point():
        return torch.equal(answer, other)
    a, b = answer.double(), other.double()
    return bool(torch.isclose(a, b, rtol=1e-2, atol=1e-2 * float(a.abs().nanmedian()) if a.numel() else 0.0, equal_nan=True).all())
