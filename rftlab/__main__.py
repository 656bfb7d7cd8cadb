"""The command line: python -m rftlab doctor | train | experiment | bench | data | report | serve."""
import argparse
import json
import sys
from pathlib import Path

from rftlab import data_command


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m rftlab", description="Reinforcement fine-tuning that you can run and check.")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="what this machine can do, measured")

    train = commands.add_parser("train", help="train a policy on a task, or `tiny-base`: make the tiny model anew")
    train.add_argument("task", help="arithmetic, countdown, a .jsonl file of your own with --reward, or tiny-base")
    train.add_argument("--reward", metavar="FILE.PY:FUNCTION", help="for a file of your own: function(completion, problem) -> number")
    train.add_argument("--test", help="for a file of your own: a held-out file; a fifth of the prompts where there is none")
    train.add_argument("--model", default="tiny", help="tiny, smollm2, a folder or a hub id")
    train.add_argument("--method", choices=["rft", "sft"], default="rft")
    train.add_argument("--problems", type=int, help="100 where the task makes them; all of a file of your own")
    train.add_argument("--steps", type=int, help="50; for tiny-base the 3500 of its recipe")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--lr", type=float)
    train.add_argument("--max-new-tokens", type=int, default=32)
    train.add_argument("--lora-rank", type=int, help="train adapters of this rank; without it all weights train")
    train.add_argument("--out", help="folder for the trained policy, record.json beside it: build/trained; for tiny-base that of `tiny`")

    experiment = commands.add_parser("experiment", help="make the records of an experiment that are still missing")
    experiment.add_argument("name", help="a grid in data/experiments (headline, reward-mix, data-size ...), or a .toml file")
    for axis in ("model", "task", "arm"):
        experiment.add_argument(f"--{axis}", f"--{axis}s", nargs="+", help=f"only these values of {axis}")
    for axis in ("size", "seed"):
        experiment.add_argument(f"--{axis}", f"--{axis}s", type=int, nargs="+", help=f"only these values of {axis}")
    experiment.add_argument("--jobs", type=int, default=1, help="processes that share this machine's cores")
    experiment.add_argument("--on", choices=["here", "ray"], default="here", help="ray: the cluster at RAY_ADDRESS")
    experiment.add_argument("--check", type=int, nargs="?", const=4, metavar="RUNS",
                            help="run a few recorded points again, and see whether they land in the recorded intervals")

    bench = commands.add_parser("bench", help="our speed beside a peer's, in one run")
    bench.add_argument("name", choices=["step", "rollout", "turbo", "grader", "kernel-step"])
    bench.add_argument("--json", action="store_true")
    bench.add_argument("--save", metavar="FOLDER", help="also write FOLDER/NAME.json, with machine and versions")
    serve = commands.add_parser("serve", help="serve a merged model with an OpenAI-compatible address")
    serve.add_argument("folder", help="what rftlab.deploy.merged wrote, or a GGUF file (with llama-cpp-python)")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--host", default="localhost")
    report = commands.add_parser("report", help="one HTML page: a model before beside after, on held-out examples")
    report.add_argument("before", help="tiny, smollm2, a folder or a hub id")
    report.add_argument("after", help="usually the folder that rftlab.deploy.merged wrote")
    report.add_argument("--data", required=True, help="JSONL of held-out examples")
    report.add_argument("--reward", required=True, help="file.py:function, or the name of a task of the course")
    report.add_argument("--max-new-tokens", type=int, default=32)
    report.add_argument("--out", default="build/report.html")
    data_command.arguments(commands.add_parser("data", help="check or convert a JSONL file of your own examples"))
    return top


def doctor() -> None:
    from rftlab import machine

    rows = machine.doctor()
    wide = max(len(name) for name, _, _ in rows)
    for name, measured, meaning in rows:
        print(f"{name:<{wide}}  {measured}\n{'':<{wide}}  {meaning}")


def train(given) -> None:
    import rftlab
    from rftlab import deploy, models

    if given.task == "tiny-base":
        usual, taken = vars(parser().parse_args(["train", "tiny-base"])), ("out", "seed", "steps")
        idle = [name for name, value in usual.items() if name not in taken and getattr(given, name) != value]
        if idle:
            raise ValueError(f"--{idle[0].replace('_', '-')} does not apply to tiny-base, which takes --out, --seed and --steps; leave it out")
        rftlab.pretrain.tiny_base(**{name: getattr(given, name) for name in taken if getattr(given, name) is not None})
        return
    out, steps = Path("build/trained" if given.out is None else given.out), 50 if given.steps is None else given.steps
    own = given.task.endswith((".jsonl", ".json"))
    task = own_task(given) if own else rftlab.load_task(given.task)
    if not own and (given.reward or given.test):
        raise ValueError(f"{given.task} has a reward and held-out problems of its own; --reward and --test go with a .jsonl file")
    out.mkdir(parents=True, exist_ok=True)  # before the minutes that training takes
    if given.lora_rank is not None:
        models.refuse_whole(out)
    problems = task.train(given.problems if given.problems is not None or own else 100, seed=given.seed)
    spec = None if given.lora_rank is None else rftlab.LoraSpec(rank=given.lora_rank, alpha=2 * given.lora_rank)
    policy = rftlab.load_policy(given.model, lora=spec, seed=given.seed)
    method = rftlab.grpo if given.method == "rft" else rftlab.sft
    record = method.train(policy, task, problems, steps=steps, seed=given.seed, lr=given.lr, max_new_tokens=given.max_new_tokens,
                          eval_problems=task.test(None if own else 200), eval_every=20, checkpoint=out / "checkpoint.pt")
    policy.save(out)
    record.save(out / "record.json")
    (out / "checkpoint.pt").unlink(missing_ok=True)
    before, after = (rftlab.Estimate.from_dict(record.final[k]) for k in ("accuracy_before", "accuracy"))
    print(f"held-out accuracy {before} -> {after}; policy and record in {out}")
    whole = deploy.merged(policy, out / "merged") if policy.adapters else out
    print(f"to serve it: python -m rftlab serve {whole}")


def own_task(given):
    """The task that a file of examples and a reward function make. Raises ValueError where one of them is missing or wrong."""
    from rftlab import data, data_check, own_task

    if not given.reward:
        raise ValueError(f"{given.task} needs a reward: --reward file.py:function, a function(completion, problem) that returns a number")
    held_out = data.load(given.test).usable().problems if given.test else 0.2
    return own_task.own_task(data.load(given.task).usable().problems, data_check.verify_from(given.reward), held_out, Path(given.task).stem)


def experiment(given) -> int:
    """0, or 1 when a run failed or a check fell outside."""
    from rftlab import experiments

    if given.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {given.jobs}")
    axes = {axis: getattr(given, axis) for axis in ("model", "task", "arm", "size", "seed") if getattr(given, axis)}
    if given.check is not None:
        return not experiments.check(given.name, given.check, **axes)
    return experiments.run(given.name, given.jobs, given.on, **axes) > 0


def main(arguments=None) -> int:
    given = parser().parse_args(arguments)
    try:
        if given.command == "doctor":
            doctor()
        elif given.command == "train":
            train(given)
        elif given.command == "experiment":
            return int(experiment(given))
        elif given.command == "data":
            return data_command.main(given)
        elif given.command == "report":
            from rftlab import compare
            return compare.main(given)
        elif given.command == "serve":
            from rftlab import serving
            return serving.serve(given.folder, given.port, given.host)
        else:
            from rftlab import bench
            bench.main(given.name, given.json, given.save)
    except KeyboardInterrupt as stop:
        print(f"\n{stop or 'stopped'}", file=sys.stderr)
        return 130
    except (ValueError, OSError, ModuleNotFoundError, json.JSONDecodeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
