"""A run of TRL's trainer that was interrupted, or killed, ends where one ends that was not."""
import json
import os
import signal

import pytest
import torch

import rftlab
from rftlab import hub_resume, hub_training, rewards
from rftlab.loop import Stopped
from rftlab.monitor import Monitor

pytest.importorskip("trl")
TASK = rftlab.load_task("arithmetic", level=1)


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setenv("RFTLAB_BACKEND", "transformers")
    hub_training.backend.cache_clear()
    yield
    hub_training.backend.cache_clear()


def made(folder, problems=12, steps=5, **more):
    policy, watch = hub_training.load("tiny", "lora", rank=4), Monitor(on_alarm=None)
    settings = {"prompts_per_step": 2, "group_size": 4, "max_new_tokens": 24, "lr": 1e-2, **more}
    return hub_training.grpo_trainer(policy, rewards.verifier(TASK), TASK.train(problems), steps=steps, output=folder,
                                     callbacks=[watch.callback()], **settings), watch, policy


def weights(policy):
    return torch.cat([one.detach().flatten() for one in policy.parameters])


def ctrl_c(at, times=1):
    from transformers import TrainerCallback

    class Press(TrainerCallback):
        def on_step_begin(self, args, state, control, **more):
            for _ in range(times if state.global_step == at else 0):
                os.kill(os.getpid(), signal.SIGINT)

    return Press()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Metrics and weights of a run that nothing stopped."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RFTLAB_BACKEND", "transformers")
    hub_training.backend.cache_clear()
    trainer, watch, policy = made(tmp_path_factory.mktemp("whole"))
    start = weights(policy)
    hub_resume.train(trainer)
    patch.undo()
    assert (weights(policy) - start).abs().max() > 1e-3 and sum(m["grad_norm"] > 0 for m in watch.metrics) > 2, "it learnt something"
    return [m["reward"] for m in watch.metrics], weights(policy)


def test_ctrl_c_and_the_same_call_again(whole, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    trainer, first, _ = made(tmp_path)
    trainer.add_callback(ctrl_c(at=2))
    with pytest.raises(Stopped, match="stopped after step 3 of 5; the state is in .* make the same calls again"):
        hub_resume.train(trainer, every=100)
    assert signal.getsignal(signal.SIGINT) is before
    (tmp_path / "checkpoint-4").mkdir()  # as a process that was killed while it wrote leaves it
    trainer, second, policy = made(tmp_path)
    hub_resume.train(trainer)
    assert [m["reward"] for m in first.metrics + second.metrics] == pytest.approx(whole[0], abs=1e-6)
    torch.testing.assert_close(weights(policy), whole[1], atol=1e-6, rtol=1e-5)
    trainer, third, policy = made(tmp_path)
    hub_resume.train(trainer)
    assert third.metrics == [] and trainer.state.global_step == 5, "what is finished is not trained on"
    torch.testing.assert_close(weights(policy), whole[1], atol=1e-6, rtol=1e-5)


def test_a_second_ctrl_c_does_not_wait_and_the_last_checkpoint_counts(whole, tmp_path):
    trainer, _, _ = made(tmp_path)
    trainer.add_callback(ctrl_c(at=3, times=2))
    with pytest.raises(KeyboardInterrupt, match="in the middle of a step"):
        hub_resume.train(trainer, every=2)
    assert [one.name for one in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    trainer, _, policy = made(tmp_path)
    hub_resume.train(trainer)
    torch.testing.assert_close(weights(policy), whole[1], atol=1e-6, rtol=1e-5)


def test_checkpoints_of_another_run_are_not_taken_for_ones_own(tmp_path):
    trainer, _, _ = made(tmp_path, steps=1)
    hub_resume.train(trainer)
    for changes, said in ({"problems": 9}, "data is '12 rows"), ({"lr": 1e-3}, "learning_rate is 0.01 there and 0.001 here"):
        with pytest.raises(ValueError, match=f"belongs to another run: .*{said}.* Name another output folder, or delete it"):
            hub_resume.train(made(tmp_path, **{"steps": 1, **changes})[0])
    (tmp_path / hub_resume.RUN).unlink()
    with pytest.raises(ValueError, match="holds checkpoints, and nothing says of which run"):
        hub_resume.train(made(tmp_path, steps=1)[0])


def test_more_steps_go_on_from_the_end(tmp_path):
    hub_resume.train(made(tmp_path, steps=1)[0])
    trainer, watch, _ = made(tmp_path, steps=2)
    hub_resume.train(trainer)
    assert [m["step"] for m in watch.metrics] == [2]
    assert json.loads((tmp_path / hub_resume.RUN).read_text())["rewards"] == ["verifier"]
