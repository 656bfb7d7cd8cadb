"""Run a grid (rftlab/grids.py): one record a run, and whatever has a record is not run again.

A killed grid goes on where it was: start it again. A run that fails is noted in failures/, the others go on, and it is tried
again at the next start.
"""
import contextlib
import importlib
import json
import random
import tempfile
import time
import traceback
from statistics import mean, stdev

from rftlab import records
from rftlab.evaluate import t_quantile
from rftlab.grids import Grid, load


def run_point(grid: Grid, point: dict, results=None, threads=None) -> str | None:
    """Run one point and save its record, or what went wrong; returns the error's last line, None when all went well."""
    return keep(grid, point, *compute(grid, point, threads), results)


def compute(grid: Grid, point: dict, threads=None) -> tuple:
    """Run one point: (record, None), or (None, traceback). threads: for torch."""
    try:
        if threads:
            import torch

            torch.set_num_threads(threads)  # OMP_NUM_THREADS would come too late in a process that has loaded torch or OpenMP
        record = importlib.import_module(grid.run).run(point, grid.settings_of(point))
        record.experiment = grid.name
        return record, None
    except (Exception, SystemExit):  # one run must not take the grid with it
        return None, traceback.format_exc()


def keep(grid: Grid, point: dict, record, trouble, results=None) -> str | None:
    """Save the record, or note the trouble in failures/; returns the last line of the trouble, None when there was none."""
    path = grid.path(point, results)
    failure = path.parent / "failures" / path.name
    if record is not None:
        try:
            record.save(path)
            failure.unlink(missing_ok=True)
            return None
        except (TypeError, ValueError):  # it holds what JSON cannot say, NaN for example
            trouble = traceback.format_exc()
    failure.parent.mkdir(parents=True, exist_ok=True)
    failure.write_text(json.dumps({"point": point, "commit": records.commit(), "error": trouble[-4000:]}, indent=1) + "\n")
    return trouble.strip().splitlines()[-1]


def run(name, jobs=1, on="here", results=None, **axes) -> int:
    """Run every point of the grid that has no record yet; returns how many failed.

    axes: lists of values to keep, such as arm=["rft"], seed=[0, 1]. jobs: processes on this machine, which share its cores.
    on: "here", or "ray" for the Ray cluster that RAY_ADDRESS names.
    """
    grid = load(name)
    chosen = _chosen(grid, axes)
    todo = [p for p in chosen if not grid.path(p, results).is_file()]
    if len(todo) < len(chosen):
        print(f"{grid.name}: {len(chosen) - len(todo)} of {len(chosen)} runs are recorded already", flush=True)
    failed, start = 0, time.monotonic()
    try:
        with contextlib.closing(_results(grid, todo, jobs, on, results)) as ended:
            for done, (point, error) in enumerate(ended, 1):
                failed += error is not None
                left = (time.monotonic() - start) / done * (len(todo) - done)
                what = f"failed, {error}" if error else summary(records.RunRecord.load(grid.path(point, results)))
                print(f"[{done}/{len(todo)}, {left / 60:.0f} min left] {grid.file.format(**point)}: {what}", flush=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {grid.name} goes on with what has no record when you give the same command again") from None
    if failed:
        what = "1 run failed; the reason is" if failed == 1 else f"{failed} runs failed; the reasons are"
        print(f"{what} in {grid.path(chosen[0], results).parent / 'failures'}")
    return failed


def _chosen(grid, axes) -> list:
    """The points that these axes leave. ValueError where each value occurs and no run has all of them."""
    chosen = grid.select(**axes)
    if not chosen:
        asked = ", ".join(f"{axis} {values!r}" for axis, values in axes.items() if values)
        raise ValueError(f"no run of experiment {grid.name} has all of {asked}; name fewer of them, or values that go together")
    return chosen


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
    from rftlab import processes
    return processes.results(grid, todo, jobs, results)


def check(name, count=4, draw_seed=None, results=None, **axes) -> bool:
    """Run `count` recorded points again, drawn at random, and print whether each lands where the records say.

    A new run counts as inside when its accuracy lies within the 95 % interval that the record itself gives, or within the
    prediction interval of the cell: mean +- t s sqrt(1 + 1/n) over all recorded seeds, at 95 % for all `count` together.
    axes: as in `run`, the points to draw from; without any, those that the grid file names for it, or all. ValueError when
    none of them has a record.
    """
    grid = load(name)
    if count < 1:
        raise ValueError(f"a check of {count} runs checks nothing; expected at least 1")
    recorded = [p for p in _chosen(grid, axes if any(v is not None and v != [] for v in axes.values()) else grid.check) if grid.path(p, results).is_file()]
    if not recorded:
        raise ValueError(f"{grid.name} has no such record to check; make some with `python -m rftlab experiment {grid.name}`")
    drawn = random.Random(draw_seed).sample(recorded, min(count, len(recorded)))
    inside = [_check_point(grid, point, 1 - 0.05 / len(drawn), results) for point in drawn]
    return all(inside)


def _check_point(grid, point, confidence, results) -> bool:
    def accuracy(point, folder):
        return records.RunRecord.load(grid.path(point, folder)).final["accuracy"]

    label, own = grid.file.format(**point), accuracy(point, results)
    peers = [accuracy(p, results)["mean"] for p in grid.points
             if {**p, "seed": 0} == {**point, "seed": 0} and grid.path(p, results).is_file()]
    low, high = prediction_interval(peers, confidence)
    low, high = min(low, own["low"]), max(high, own["high"])
    with tempfile.TemporaryDirectory() as scratch:
        error = run_point(grid, point, scratch)
        if error:
            print(f"outside: {label} failed, {error}", flush=True)
            return False
        value = accuracy(point, scratch)["mean"]
    inside = low <= value <= high
    print(f"{'inside' if inside else 'outside'}: {label} {value:.3f}, recorded {own['mean']:.3f}, "
          f"interval {low:.3f} to {high:.3f} from {len(peers)} {'seed' if len(peers) == 1 else 'seeds'}", flush=True)
    return inside


def prediction_interval(values, confidence=0.95) -> tuple[float, float]:
    """Where one more value would fall: mean +- t s sqrt(1 + 1/n); a single value gives itself."""
    n = len(values)
    if n < 2:
        return values[0], values[0]
    half = t_quantile((1 + confidence) / 2, n - 1) * stdev(values) * (1 + 1 / n) ** 0.5
    return mean(values) - half, mean(values) + half
