"""Stop a run of TRL's trainers at any point, and go on where it stopped by the same call: Ctrl-C, a lost Colab, a dead battery.

    trainer = hub_training.grpo_trainer(policy, rewards.verifier(task), task.train(), steps=500, output="build/mine")
    hub_resume.train(trainer, every=10)

The state (adapters or weights, optimizer, random numbers) is written to the trainer's output folder every so many steps and at the
first Ctrl-C, after the step. The run ends where one that was never stopped ends (a test compares them).
"""
import contextlib
import hashlib
import json
import signal
import threading
from pathlib import Path

from rftlab.loop import Stopped

RUN = "rftlab_run.json"  # what the checkpoints in a folder belong to
# Settings that may differ between a run and its continuation.
FREE = ("output_dir", "logging_dir", "run_name", "max_steps", "report_to", "project", "hub_", "save_", "logging_", "disable_tqdm", "push_to_hub")


def train(trainer, every=10):
    """trainer.train(), or what is left of it; of a finished run the weights are loaded. The metrics are in trainer.state.log_history.

    Raises ValueError where the folder's checkpoints belong to another run, and Stopped after Ctrl-C; a second Ctrl-C does not wait for the step.
    """
    from transformers.trainer_utils import SaveStrategy

    folder = Path(trainer.args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    newest = _newest(folder)
    _same_run(trainer, folder, newest)
    trainer.args.save_strategy, trainer.args.save_steps, trainer.args.save_total_limit = SaveStrategy.STEPS, every, 1
    if newest and (state := _state(newest)).global_step >= trainer.args.max_steps:  # transformers would take another step
        trainer._load_from_checkpoint(newest)
        trainer.state = state
        return
    with _stopping(trainer) as asked:
        trainer.train(resume_from_checkpoint=newest)
    if asked and trainer.state.global_step < trainer.args.max_steps:
        raise Stopped(f"stopped after step {trainer.state.global_step} of {trainer.args.max_steps}; the state is in {folder}. To go on, make "
                      "the same calls again.")


def _newest(folder) -> str | None:
    """The last checkpoint that was written to its end: trainer_state.json comes last."""
    whole = [one for one in folder.glob("checkpoint-*") if (one / "trainer_state.json").is_file()]
    return str(max(whole, key=lambda one: int(one.name.rpartition("-")[2]))) if whole else None


def _state(checkpoint):
    from transformers import TrainerState

    return TrainerState.load_from_json(str(Path(checkpoint, "trainer_state.json")))


@contextlib.contextmanager
def _stopping(trainer):
    """A list that Ctrl-C makes true; the step is finished and saved first."""
    from transformers import TrainerCallback

    asked = []

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            control.should_training_stop |= bool(asked)
            control.should_save |= bool(asked) or state.global_step >= state.max_steps

    def ask(*_):
        if asked:
            raise KeyboardInterrupt("stopped in the middle of a step")
        asked.append(True)

    stop, main = Stop(), threading.current_thread() is threading.main_thread()
    trainer.add_callback(stop)
    before = signal.signal(signal.SIGINT, ask) if main else None
    try:
        yield asked
    finally:
        trainer.remove_callback(stop)
        if main:
            signal.signal(signal.SIGINT, before)


def _same_run(trainer, folder, newest) -> None:
    ours = _description(trainer)
    if newest:
        try:
            theirs = json.loads((folder / RUN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} holds checkpoints, and nothing says of which run ({error}); name another output folder, or delete it") from error
        odd = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
        if odd:
            raise ValueError(f"{folder} belongs to another run: " + "; ".join(
                f"{name} is {theirs.get(name)!r:.60} there and {ours.get(name)!r:.60} here" for name in odd[:5])
                + ". Name another output folder, or delete it.")
    (folder / RUN).write_text(json.dumps(ours, indent=1), encoding="utf-8")


def _description(trainer) -> dict:
    """What has to be equal for a continuation, as it stands in JSON: settings, data, rewards, model, and how much of it trains."""
    settings = {name: value for name, value in trainer.args.to_dict().items() if not name.startswith(FREE)}
    rows = hashlib.sha256("\n".join(json.dumps(row, sort_keys=True, default=str) for row in trainer.train_dataset).encode())
    found = {**settings, "data": f"{len(trainer.train_dataset)} rows {rows.hexdigest()[:12]}",
             "rewards": list(getattr(trainer, "reward_func_names", ())), "model": trainer.model.config._name_or_path,
             "trained": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)}
    return json.loads(json.dumps(found, default=str))
