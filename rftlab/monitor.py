"""Watch a run: keep its metrics, and say when it is sick and what to try. For `rftlab.grpo`, TRL's trainers and Unsloth alike.

    monitor = Monitor()
    rftlab.grpo.train(..., on_step=monitor)                  # or: grpo_trainer(..., callbacks=[monitor.callback()])
    monitor.alarms                                           # [] while it is well

    with Board("sums", "grpo") as board:                     # the same live in Trackio: `trackio show --project sums`
        monitor = Monitor(on_step=board.step, on_alarm=board.alarm)

Why not the loss: on policy the ratio of new to old probability is 1, so that the loss is minus the mean advantage of the tokens,
whose size says nothing about the reward; it is 0 when all completions are of one length, however good they are.

metric             healthy                                sick
reward             rises, then levels off                 flat from the start; falls after it rose
zero_variance      below 0.9                              1: all groups agree, and nothing is learned
entropy            falls slowly                           near 0 while the reward is still low
kl                 grows slowly, below about 0.1 a token  above 1, or ten times in a few steps
clip_fraction      0 on policy, else below 0.2            above 0.3: the steps are too large
length, truncated  steady, or rises with the reward       doubles while the reward does not rise; truncated above 0.5
tokens_per_second  steady                                 falls: completions that never end
memory_mb          steady                                 rises with every step
"""
import contextlib
import io
import resource
import sys
import time
from dataclasses import dataclass
from statistics import mean

# TRL's names, and ours. TRL's reward_std is the mean over groups, ours that of the batch.
TRL_NAMES = {"loss": "loss", "grad_norm": "grad_norm", "reward": "reward", "reward_std": "reward_std", "entropy": "entropy", "kl": "kl",
             "frac_reward_zero_std": "zero_variance", "clip_ratio/region_mean": "clip_fraction",
             "completions/mean_length": "length", "completions/clipped_ratio": "truncated", "step_time": "seconds"}
ADVICE = {
    "reward dead": "no group has both better and worse answers: take easier problems or a warm start by SFT if all are wrong, harder "
                   "ones if all are right, a larger group, a reward in finer steps; and see that the verifier reads what is written",
    "entropy collapse": "the policy says one thing and it is not the right one: lower the learning rate, raise clip_high or the "
                        "temperature, look whether a side reward pays for it, and go back to a checkpoint before the fall",
    "length explosion": "it writes more and is not paid more: read some completions; pay brevity a little (`rewards.brevity`), raise "
                        "max_new_tokens if they are cut off mid-thought, look at what the reward reads last",
    "KL run-away": "the policy leaves the model that it began as: lower the learning rate, set kl_coef to 0.01 to 0.1, and read "
                   "completions for a trick that the reward falls for",
}


@dataclass(frozen=True)
class Alarm:
    """A sick run: since when, what shows it, and what to try."""

    name: str
    step: int
    evidence: str

    @property
    def advice(self) -> str:
        return ADVICE[self.name]

    def __str__(self) -> str:
        return f"step {self.step}: {self.name} ({self.evidence})\n  try: {self.advice}"


@dataclass(frozen=True)
class Limits:
    """When an alarm rings. window: steps that are looked at together. best_reward: what a perfect completion is paid."""

    window: int = 8
    best_reward: float = 1.0
    dead: float = 0.95       # share of groups that agree
    collapsed: float = 0.2   # of the entropy that it began with
    solved: float = 0.8      # of best_reward: from here on a low entropy is success
    longer: float = 2.0      # times the length that it began with
    gained: float = 0.1      # of best_reward: less than that was not worth twice the length
    kl: float = 1.0          # nats a token


def look(metrics, limits=Limits()) -> list[Alarm]:
    """The alarms that the last `window` steps of a run give cause for; pure. Metrics that are missing raise none."""
    w, found = limits.window, []
    if len(metrics) < w:
        return found
    first, last, step = metrics[:max(2, w // 2)], metrics[-w:], metrics[-1]["step"]
    start, reward = _mean(first, "reward"), _mean(last, "reward")
    agree = _mean(last, "zero_variance")
    if agree is not None and agree >= limits.dead and not (reward or 0) >= limits.solved * limits.best_reward:
        paid = "none graded" if reward is None else f"mean reward {reward:.2f}"
        found.append(Alarm("reward dead", step, f"{agree:.0%} of the groups of the last {w} steps agree, {paid}"))
    begin, now = _mean(first, "entropy"), _mean(last, "entropy")
    if begin and now is not None and now < limits.collapsed * begin and reward is not None and reward < limits.solved * limits.best_reward:
        found.append(Alarm("entropy collapse", step, f"{begin:.3f} -> {now:.3f} nats a token at a mean reward of {reward:.2f}"))
    begin, now = _mean(first, "length"), _mean(last, "length")
    gain = (reward or 0.0) - (start or 0.0)  # what nobody could grade was not paid
    if begin and now is not None and len(metrics) >= 2 * len(first) and now > limits.longer * begin and gain < limits.gained * limits.best_reward:
        paid = "none graded" if reward is None else f"reward {reward:.2f}, none graded at first" if start is None else f"reward {gain:+.2f}"
        found.append(Alarm("length explosion", step, f"{begin:.1f} -> {now:.1f} tokens, {paid}"))
    far = _mean(last[-max(2, w // 2):], "kl")
    if far is not None and far > limits.kl:
        found.append(Alarm("KL run-away", step, f"{far:.2f} nats a token from the model before training"))
    return found


def _mean(metrics, name):
    values = [m[name] for m in metrics if m.get(name) is not None and m[name] == m[name]]  # TRL says NaN where we say None
    return mean(values) if values else None


class Monitor:
    """Takes the metrics of each step; `metrics` keeps them, `alarms` the first of each kind. on_alarm is called with each, print by default."""

    def __init__(self, limits=Limits(), on_alarm=print, on_step=None):
        self.limits, self.on_alarm, self.on_step = limits, on_alarm, on_step
        self.metrics, self.alarms = [], []

    def __call__(self, entry) -> None:
        self.metrics.append({"memory_mb": round(peak_memory_mb()), **entry})
        if self.on_step:
            self.on_step(self.metrics[-1])
        for alarm in look(self.metrics, self.limits):
            if alarm.name not in {one.name for one in self.alarms}:
                self.alarms.append(alarm)
                if self.on_alarm:
                    self.on_alarm(alarm)

    def callback(self):
        """This monitor as a callback of TRL's GRPOTrainer or SFTTrainer, Unsloth's too."""
        from transformers import TrainerCallback

        monitor, tokens = self, [0.0, time.perf_counter()]

        class Callback(TrainerCallback):
            def on_log(self, args, state, control, logs=None, **more):
                if not logs or "loss" not in logs:  # the summary at the end
                    return
                entry = from_trl(logs, state.global_step)
                count, now = logs.get("num_tokens"), time.perf_counter()
                if count is not None:
                    entry["tokens_per_second"] = (count - tokens[0]) / max(now - tokens[1], 1e-9)
                    tokens[:] = count, now
                monitor(entry)

        return Callback()


class Board:
    """A run in Trackio, a dashboard on this machine without an account: metrics as they come, alarms as its alerts.

    It is kept in $TRACKIO_DIR, else in Hugging Face's cache folder, and `trackio show --project NAME` shows it, while it is written
    too. Raises ValueError where trackio is not installed. TRL writes there by itself with `grpo_trainer(..., report_to="trackio",
    project=NAME, run_name=...)`, under its own names and without the alarms.
    """

    def __init__(self, project, run=None, config=None):
        self.trackio = _trackio()
        with contextlib.redirect_stdout(io.StringIO()):  # it names folders, and what to type next
            self.trackio.init(project=project, name=run, config=config, embed=False, auto_log_cpu=False)

    def step(self, entry) -> None:
        numbers = {name: value for name, value in entry.items() if name != "step" and isinstance(value, (int, float))}
        self.trackio.log(numbers, step=entry["step"])

    def alarm(self, alarm) -> None:
        """Print the alarm, as a Monitor does, and keep it as an alert of the run."""
        print(alarm)
        with contextlib.redirect_stdout(io.StringIO()):
            self.trackio.alert(alarm.name, f"{alarm.evidence}; try: {alarm.advice}")

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *error) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.trackio.finish()


def _trackio():
    try:
        import trackio
    except ImportError as error:
        from rftlab.install import TRACKIO

        raise ValueError(f"a Board needs trackio ({error}): `pip install --no-deps {' '.join(TRACKIO)}`") from error
    return trackio


def from_trl(logs, step) -> dict:
    """One entry of TRL's log under our names; what `log_metric` and each reward function say keeps its own."""
    entry = {"step": step}
    for name, value in logs.items():
        if name in TRL_NAMES:
            entry[TRL_NAMES[name]] = float(value)
        elif name.startswith("rewards/") and name.endswith("/mean"):
            entry[name.removesuffix("/mean")] = float(value)
        elif not name.startswith(("rewards/", "completions/", "clip_ratio/", "sampling/", "learning_rate", "num_tokens", "epoch", "step", "tools/")):
            entry[name] = float(value)
    return entry


def peak_memory_mb() -> float:
    """The most memory so far: of the GPU where one computes, else of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
