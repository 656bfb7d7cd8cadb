"""Grids for the tests of experiments, processes and cluster: quick runs that write down where and when they began."""
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

from rftlab.records import RunRecord

RUNS = Path(__file__).parent  # must be on the path of every process that runs them
held = []  # what lives as long as the process
AXES = {"arm": ["ok"], "size": [10], "seed": [0, 1, 2]}


def write_grid(folder, *tables, name="small", **settings):
    """A grid file of these tables of axes, by default three quick runs; its runs log to folder/log.jsonl. Returns its path."""
    lines = ['run = "grid_runs"', f"file = '{{arm}}-n{{size}}-seed{{seed}}'"]
    for table in tables or ({},):
        lines += ["[[grid]]", *(f"{axis} = {json.dumps(values)}" for axis, values in {**AXES, **table}.items())]
    lines += ["[[settings]]", "where = {}", f"log = {json.dumps(str(folder / 'log.jsonl'))}",
              *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def begun(folder) -> list[dict]:
    """What the runs wrote down: {arm, seed, pid, node}, in the order in which they began."""
    log = folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def saved(folder, name="small") -> dict:
    """The records of the grid, without clock readings: name -> contents."""
    return {path.stem: RunRecord.load(path).without_times() for path in (folder / name).glob("*.json")}


def failures(folder, name="small") -> dict:
    """What was noted of the runs that failed: name -> contents."""
    return {path.stem: json.loads(path.read_text()) for path in (folder / name / "failures").glob("*.json")}


def wait_for(condition, seconds=400):
    """Return the condition's first true value. AssertionError when it has none within the time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.05)
    return value


def run(point, settings) -> RunRecord:
    """Do what the point's arm says: end well, fail in one of several ways, or run a real, very small data-size point."""
    arm, seed = point["arm"], point["seed"]
    with open(settings["log"], "a") as log:
        log.write(json.dumps({"arm": arm, "seed": seed, "pid": os.getpid(), "node": node()}) + "\n")
    time.sleep(settings.get("pause", 0))
    if "gate" in settings:
        wait_for(Path(settings["gate"]).exists)
    if arm == "bad":
        raise RuntimeError(f"nothing good comes of seed {seed}")
    if arm == "exits":
        sys.exit(3)
    if arm == "dies":
        os._exit(1)
    if arm == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if arm == "locks":
        held.append(multiprocessing.RLock())  # as tqdm does
    if arm == "rft":
        from rftlab import data_size
        return data_size.run({**point, "task": "arithmetic", "model": "tiny"}, settings)
    mean = float("nan") if arm == "nan" else settings.get("accuracy", 0.5 + seed / 100)
    final = {"accuracy": {"mean": mean, "low": 0.4, "high": 0.6, "n": 100}}
    return RunRecord("?", arm, "counting", "none", point["size"], seed, {k: v for k, v in settings.items() if k not in ("log", "gate")},
                     started="now", seconds=0.1, metrics=[{"step": 1, "accuracy": mean}], final=final)


def node() -> str:
    """The Ray node that this process works for; "" outside a cluster."""
    if "ray" not in sys.modules:
        return ""
    import ray

    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
