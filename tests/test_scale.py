"""Two processes end where one does; and every command in SCALE.md is understood by the program that it names."""
import os
import re
import shlex
import subprocess
import sys

import pytest
import torch

from rftlab.notebooks import ROOT

pytest.importorskip("trl")
COMMANDS = [shlex.split(block.strip()) for block in re.findall(r"```\n(.*?)```", (ROOT / "SCALE.md").read_text(), re.DOTALL)]
LAUNCH = [words for words in COMMANDS if words[:2] == ["accelerate", "launch"]]


def parsed_by_trl(words, monkeypatch):
    """The parsed arguments of `trl <command> ...` or `trl.scripts.<command> ...`."""
    from trl.scripts import grpo, vllm_serve

    parser = {"grpo": grpo, "vllm-serve": vllm_serve}[words[0]].make_parser()
    given = [word if word != "--bf16" else "--bf16=False" for word in words[1:]]  # or TRL asks this machine for a GPU
    if words[0] == "grpo":
        given += ["--use_cpu"]
    return parser.parse_args_and_config(given, fail_with_unknown_args=True)


def test_all_commands_are_of_a_known_kind():
    assert len(COMMANDS) == 5 and len(LAUNCH) == 2
    assert {tuple(words[:2]) for words in COMMANDS} == {("accelerate", "launch"), ("trl", "grpo"), ("trl", "vllm-serve")}


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_trl_understands_it(words, monkeypatch):
    if words[0] == "trl":
        words = words[1:]
    elif "trl.scripts.grpo" in words:
        words = ["grpo", *words[words.index("trl.scripts.grpo") + 1:]]
    else:
        pytest.skip("a script of ours, which the next test starts")
    found = parsed_by_trl(words, monkeypatch)
    said = {name: value for one in found for name, value in vars(one).items()}
    for flag, value in zip(words, words[1:]):
        if flag.startswith("--") and not value.startswith("--"):
            kept = said[flag[2:]]
            assert value == str(kept) or kept == [value] or float(value) == kept, flag
    with pytest.raises((SystemExit, ValueError)):
        parsed_by_trl([*words, "--nonsense", "1"], monkeypatch)


@pytest.mark.parametrize("words", LAUNCH, ids=lambda words: words[-1])
def test_accelerate_understands_it(words):
    from accelerate.commands.launch import launch_command_parser

    found = launch_command_parser().parse_args(words[2:])
    assert found.num_processes in (2, 4) and found.training_script in ("tests/two_processes.py", "trl.scripts.grpo")


@pytest.mark.slow
def test_two_processes_end_where_one_does(tmp_path):
    """The command of the page, as it stands there, and the same script alone."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("WORLD_SIZE", None)
    words = [str(tmp_path / "two.pt") if word.endswith("weights.pt") else word for word in LAUNCH[0]]
    launch = [sys.executable, "-m", "accelerate.commands.launch", *words[2:]]
    alone = [sys.executable, "tests/two_processes.py", str(tmp_path / "one.pt")]
    for command in (alone, launch):
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
        assert ran.returncode == 0, ran.stderr[-3000:]
    one, two = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two"))
    assert (one["world"], two["world"]) == (1, 2)
    assert one["rewards"] == pytest.approx(two["rewards"], abs=1e-6) and len(one["rewards"]) == 3
    import rftlab

    start = rftlab.load_policy("tiny").model.state_dict()
    moved = torch.cat([(value - start[name]).flatten() for name, value in one["weights"].items()]).abs()
    apart = torch.cat([(value - two["weights"][name]).flatten() for name, value in one["weights"].items()]).abs()
    assert moved.max() > 1e-3, "weights that were not trained would be equal too"
    # Sums in another order round differently, and AdamW divides small gradients by small numbers.
    assert apart.max() < 0.05 * moved.max() and apart.mean() < 1e-3 * moved.mean(), (apart.max(), apart.mean(), moved.max(), moved.mean())
