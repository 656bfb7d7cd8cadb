"""The command line: every command says what it does, and bad input ends in one clear line, not in a traceback."""
import importlib
import json
import os
import subprocess
import sys
from functools import partial

import pytest

from rftlab import bench
from rftlab.__main__ import main
from rftlab.records import RunRecord


def test_doctor_measures(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "GFLOP/s" in out and "Model tiny" in out and "found" in out


@pytest.mark.parametrize("arguments, message", [
    (["train", "chess"], "unknown task 'chess'"),
    (["train", "arithmetic", "--model", "./nowhere"], "not a folder"),
    (["train", "arithmetic", "--steps", "0"], "steps must be at least 1"),
    (["train", "tiny-base", "--steps", "0"], "steps must be at least 1"),
    (["train", "tiny-base", "--lora-rank", "4"], "--lora-rank does not apply to tiny-base"),
    (["train", "arithmetic", "--problems", "99999"], "different train problems"),
    (["experiment", "headline", "--arms", "magic"], "no arm 'magic'"),
    (["train", "mine.jsonl"], "mine.jsonl needs a reward: --reward file.py:function"),
    (["train", "mine.jsonl", "--reward", "arithmetic"], "mine.jsonl does not exist"),
    (["train", "arithmetic", "--reward", "mine.py:right"], "--reward and --test go with a .jsonl file"),
    (["report", "tiny", "./nowhere", "--data", "mine.jsonl", "--reward", "arithmetic"], "mine.jsonl does not exist"),
])
def test_bad_input_is_one_clear_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_tiny_base_is_made_as_the_command_says(tmp_path, monkeypatch):
    from rftlab import pretrain, records

    class Begun(Exception):
        """Raised in place of the minutes of training, with the recipe."""

    def begin(recipe, *more):
        raise Begun(recipe)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrain, "train_tokenizer", lambda *given: None)
    monkeypatch.setattr(pretrain, "pretrain", begin)
    monkeypatch.setattr(records, "results_folder", lambda: tmp_path / "package" / "results")
    own = tmp_path / "package" / "models" / "tiny"
    for arguments, folder, seed, steps in ([], own, 0, 3500), (["--out", "build/trained", "--seed", "3", "--steps", "7"], tmp_path / "build" / "trained", 3, 7):
        with pytest.raises(Begun) as begun:
            main(["train", "tiny-base", *arguments])
        recipe, = begun.value.args
        assert (recipe.seed, recipe.steps) == (seed, steps) and folder.is_dir() and (folder == own) == own.is_dir()
        own.rmdir() if folder == own else None


@pytest.mark.parametrize("name", ["turbo_curve", "turbo_rollout", "memory_measured"])
def test_the_measuring_commands_say_what_they_take(name, capsys):
    for arguments, code, said in (["--help"], 0, "smollm2,tiny"), (["chess"], 2, "invalid choice: 'chess'"):
        with pytest.raises(SystemExit) as end:
            importlib.import_module(f"rftlab.{name}").main(arguments)
        assert end.value.code == code and said in "".join(capsys.readouterr())


def test_train_leaves_a_policy_and_a_record(tmp_path):
    command = [sys.executable, "-m", "rftlab", "train", "arithmetic", "--steps", "3", "--lora-rank", "4", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RFT_PROFILE": "ci"})
    assert done.returncode == 0, done.stderr
    assert "held-out accuracy" in done.stdout
    assert len(RunRecord.load(tmp_path / "out" / "record.json").metrics) == 3
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file() and not (tmp_path / "out" / "checkpoint.pt").exists()


def test_a_file_and_a_reward_of_ones_own_are_trained_on_and_can_be_served(tmp_path, monkeypatch, capsys):
    from rftlab import serving

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({"prompt": f"What is {i} + 2?", "answer": str(i + 2)}) + "\n" for i in range(20)))
    (tmp_path / "mine.py").write_text("def right(completion, problem):\n    return float(completion.strip().endswith(problem.answer))\n")
    command = ["train", "mine.jsonl", "--reward", "mine.py:right", "--steps", "2", "--max-new-tokens", "8", "--lora-rank", "4", "--out", "out"]
    assert main(command) == 0
    assert f"to serve it: python -m rftlab serve {os.path.join('out', 'merged')}" in capsys.readouterr().out
    record = RunRecord.load(tmp_path / "out" / "record.json")
    assert (record.task, record.size, record.final["accuracy"]["n"]) == ("mine", 16, 4) and len(record.metrics) == 2
    assert serving.command("out/merged", serving.free_port())
    assert main(["report", "tiny", "out/merged", "--data", "mine.jsonl", "--reward", "mine.py:right", "--out", "new/report.html",
                 "--max-new-tokens", "4"]) == 0
    assert (tmp_path / "new" / "report.html").is_file()
    (tmp_path / "mine.py").write_text("def right(completion, problem):\n    return 'good'\n")
    assert main(command) == 1
    assert "your reward function returned 'good' for" in capsys.readouterr().err


def test_bench_rows_and_table():
    less = bench.row("step_seconds", "s", 2.0, "trl", 24.0, 1.0, 5, more_is_better=False)
    more = bench.row("rollout_tokens_per_s", "tokens/s", 800.0, "generate", 200.0, 1600.0, 3, more_is_better=True)
    assert set(less) == {"name", "unit", "ours", "peer", "peer_value", "ratio", "limit", "share_of_limit", "runs"}
    assert (less["ratio"], less["share_of_limit"], more["ratio"], more["share_of_limit"]) == (12.0, 0.5, 4.0, 0.5)
    assert "12.0x" in bench.table([less, more]) and "50 % of what this machine" in bench.table([less, more])
    json.dumps([less, more])


def test_the_bench_interleaves_and_isolates():
    (fast, small), (slow, large) = bench.interleaved([sleep_short, sleep_long], runs=3)
    assert 0.01 <= fast < slow and large > small + 100e6


@pytest.mark.parametrize("steps, name", [(0, "fails_at"), (1, r"fails_at \(turbo\)")])
def test_a_process_of_the_bench_that_fails_is_named(steps, name):
    with pytest.raises(ValueError, match=f"the process that measures {name} failed"):
        bench.interleaved([partial(fails_at, steps, **({"method": "turbo"} if steps else {}))], runs=2)


def fails_at(steps, gate, method=None):
    for _ in range(steps):
        gate.begin()
        gate.end()
    raise RuntimeError("this traceback is the test's own")


def sleep_short(gate):
    bench.repeat(lambda: __import__("time").sleep(0.01), gate)


def sleep_long(gate):
    block = bytearray(200_000_000)
    bench.repeat(lambda: (__import__("time").sleep(0.05), len(block)), gate)
