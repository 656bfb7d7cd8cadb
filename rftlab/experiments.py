"""A grid of runs from one small file: one record a run, and whatever has a record is not run again.

data/experiments/<name>.toml says what is run:

    run = "rftlab.data_size"            # a module with run(point, settings) -> RunRecord
    file = "{arm}-n{size}-seed{seed}"   # the record's name in data/results/<name>/
    [[grid]]                            # every combination of these, the last axis outermost
    arm = ["base", "rft"]
    size = [10, 100]
    seed = [0, 1, 2]
    [[settings]]                        # for the points that match `where`; a later table overrides an earlier one
    where = {arm = "rft"}
    lr = 3e-4

A killed grid goes on where it was: start it again. A run that fails is noted in failures/, the others go on, and it is tried
again at the next start.
"""
import importlib
import itertools
import json
import multiprocessing
import os
import random
import time
import tomllib
import traceback
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from rftlab import records


@dataclass(frozen=True)
class Grid:
    """A parsed grid file. points: one dict of axis values a run, in the order in which they are run."""

    name: str
    run: str
    file: str
    points: list
    settings: list = field(default_factory=list)

    def settings_of(self, point: dict) -> dict:
        """Everything that the [[settings]] tables say about this point."""
        merged = {}
        for table in self.settings:
            if all(point.get(axis) in (value if isinstance(value, list) else [value]) for axis, value in table["where"].items()):
                merged.update({k: v for k, v in table.items() if k != "where"})
        return merged

    def path(self, point: dict, folder=None) -> Path:
        return Path(folder or records.results_folder()) / self.name / f"{self.file.format(**point)}.json"

    def select(self, **axes) -> list:
        """The points whose axes have one of the given values; None leaves an axis free. ValueError for a value of no point."""
        for axis, values in axes.items():
            known = {p.get(axis) for p in self.points}
            unknown = [v for v in values or () if v not in known]
            if unknown:
                listed = ", ".join(str(v) for v in sorted((k for k in known if k is not None), key=lambda v: (str(type(v)), v)))
                raise ValueError(f"no {axis} {unknown[0]!r} in experiment {self.name}; there is {listed or 'no such axis'}")
        return [p for p in self.points if all(not values or p.get(axis) in values for axis, values in axes.items())]


def folder() -> Path:
    """data/experiments, where the grid files are."""
    return records.results_folder().parent / "experiments"


def names() -> list[str]:
    return sorted(p.stem for p in folder().glob("*.toml"))


def load(name) -> Grid:
    """The grid of that name, or of a path to a .toml file. ValueError with the reason when there is none or it says nothing."""
    path = Path(name) if str(name).endswith(".toml") else folder() / f"{name}.toml"
    if not path.is_file():
        raise ValueError(f"no experiment {name!r}; there are {', '.join(names())}, or give the path of a .toml file")
    try:
        data = tomllib.loads(path.read_text())
        points = [dict(zip(reversed(list(table)), values)) for table in data["grid"]
                  for values in itertools.product(*(table[axis] for axis in reversed(list(table))))]
        grid = Grid(path.stem, data["run"], data["file"], points, data.get("settings", []))
        files = [grid.path(p).name for p in points]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a grid file: {type(error).__name__} {error}; expected run, file and [[grid]] tables "
                         "whose axes are lists, and an axis for each {name} in file") from error
    if len(set(files)) < len(files):
        twice = next(f for f in files if files.count(f) > 1)
        raise ValueError(f"{path}: two points share the record {twice}; name every axis that varies in `file`")
    return grid


def run_point(grid: Grid, point: dict, results=None, threads=None) -> str | None:
    """Run one point and save its record, or what went wrong; returns the error's last line, None when all went well."""
    path = grid.path(point, results)
    failure = path.parent / "failures" / path.name
    try:
        if threads:
            import torch
            torch.set_num_threads(threads)
        record = importlib.import_module(grid.run).run(point, grid.settings_of(point))
        record.experiment = grid.name
        record.save(path)
        failure.unlink(missing_ok=True)
        return None
    except Exception as error:  # one run must not take the grid with it
        note_failure(failure, point, traceback.format_exc())
        return f"{type(error).__name__}: {error}"


def note_failure(path: Path, point: dict, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"point": point, "commit": records.commit(), "error": text[-4000:]}, indent=1) + "\n")


def run(name, jobs=1, on="here", results=None, **axes) -> int:
    """Run every point of the grid that has no record yet; returns how many failed.

    axes: lists of values to keep, such as arm=["rft"], seed=[0, 1]. jobs: processes on this machine, which share its cores.
    on: "here", or "ray" for the Ray cluster that RAY_ADDRESS names.
    """
    grid = load(name)
    chosen = grid.select(**axes)
    todo = [p for p in chosen if not grid.path(p, results).is_file()]
    if len(todo) < len(chosen):
        print(f"{grid.name}: {len(chosen) - len(todo)} of {len(chosen)} runs are recorded already", flush=True)
    failed, start = 0, time.monotonic()
    try:
        for done, (point, error) in enumerate(_results(grid, todo, jobs, on, results), 1):
            failed += error is not None
            left = (time.monotonic() - start) / done * (len(todo) - done)
            label = grid.file.format(**point)
            what = f"failed, {error}" if error else summary(records.RunRecord.load(grid.path(point, results)))
            print(f"[{done}/{len(todo)}, {left / 60:.0f} min left] {label}: {what}", flush=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {grid.name} goes on with what has no record when you give the same command again") from None
    if failed:
        print(f"{failed} runs failed; the reasons are in {grid.path(chosen[0], results).parent / 'failures'}")
    return failed


def summary(record) -> str:
    after, before = record.final.get("accuracy"), record.final.get("accuracy_before")
    change = f"accuracy {before['mean']:.3f} -> {after['mean']:.3f}, " if before and after else ""
    return f"{change}{record.seconds:.0f} s"


def _results(grid, todo, jobs, on, results):
    """Yield (point, error) as the runs end."""
    if on == "ray":
        from rftlab import cluster
        return cluster.results(grid, todo, results)
    if on != "here":
        raise ValueError(f"on={on!r}; expected \"here\" or \"ray\"")
    if jobs == 1:
        return ((p, run_point(grid, p, results)) for p in todo)
    return _in_processes(grid, todo, jobs, results)


def _in_processes(grid, todo, jobs, results):
    """Processes that stay, since each imports torch once; a process that dies costs the runs that were under way."""
    waiting, threads = list(reversed(todo)), max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    while waiting:
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            running = {}
            try:
                while waiting or running:
                    while waiting and len(running) < jobs:
                        point = waiting.pop()
                        running[pool.submit(run_point, grid, point, results, threads)] = point
                    for ended in wait(running, return_when=FIRST_COMPLETED).done:
                        point = running[ended]
                        yield point, ended.result()
                        del running[ended]
            except BrokenProcessPool:
                for point in running.values():
                    path = grid.path(point, results)
                    note_failure(path.parent / "failures" / path.name, point, "the process died: out of memory, or killed")
                    yield point, "the process died"
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def check(name, count=4, seed=None, results=None, **axes) -> bool:
    """Run `count` recorded points again, drawn at random, and print whether each lands where the records say.

    A new run counts as inside when its accuracy lies within the 95 % interval that the record itself gives, or within the
    prediction interval of the cell: mean +- t s sqrt(1 + 1/n) over the recorded seeds, at 95 % for all `count` together.
    """
    import tempfile

    grid = load(name)
    recorded = [p for p in grid.select(**axes) if grid.path(p, results).is_file()]
    if not recorded:
        raise ValueError(f"{grid.name} has no record to check; make some with `python -m rftlab experiment {grid.name}`")
    drawn = random.Random(seed).sample(recorded, min(count, len(recorded)))
    inside = []
    for point in drawn:
        old = records.RunRecord.load(grid.path(point, results))
        peers = [records.RunRecord.load(grid.path(p, results)).final["accuracy"]["mean"] for p in recorded
                 if all(p[axis] == value for axis, value in point.items() if axis != "seed")]
        low, high = prediction_interval(peers, 1 - 0.05 / len(drawn))
        own = old.final["accuracy"]
        low, high = min(low, own["low"]), max(high, own["high"])
        with tempfile.TemporaryDirectory() as scratch:
            error = run_point(grid, point, scratch)
            if error:
                print(f"outside: {grid.file.format(**point)} failed, {error}")
                inside.append(False)
                continue
            value = records.RunRecord.load(grid.path(point, scratch)).final["accuracy"]["mean"]
        inside.append(low <= value <= high)
        print(f"{'inside' if inside[-1] else 'outside'}: {grid.file.format(**point)} {value:.3f}, recorded {own['mean']:.3f}, "
              f"interval {low:.3f} to {high:.3f} from {len(peers)} seeds", flush=True)
    return all(inside)


def prediction_interval(values, confidence=0.95) -> tuple[float, float]:
    """Where one more value would fall: mean +- t s sqrt(1 + 1/n); a single value gives itself."""
    from statistics import mean, stdev

    from rftlab.evaluate import t_quantile

    n = len(values)
    if n < 2:
        return values[0], values[0]
    half = t_quantile((1 + confidence) / 2, n - 1) * stdev(values) * (1 + 1 / n) ** 0.5
    return mean(values) - half, mean(values) + half
