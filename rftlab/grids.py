"""Grid files: which runs an experiment consists of, and the settings of each.

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

A line `check = {arm = ["base"]}` before the tables says which points `--check` draws from when it is not told. Everywhere one
value stands for a list of one: `seed = 7` is `seed = [7]`.
"""
import importlib.util
import itertools
import tomllib
from collections.abc import Iterable
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
    check: dict = field(default_factory=dict)

    def settings_of(self, point: dict) -> dict:
        """Everything that the [[settings]] tables say about this point."""
        merged = {}
        for table in self.settings:
            if _matches(table["where"], point):
                merged.update({k: v for k, v in table.items() if k != "where"})
        return merged

    def path(self, point: dict, folder=None) -> Path:
        return Path(folder or records.results_folder()) / self.name / f"{self.file.format(**point)}.json"

    def select(self, **axes) -> list:
        """The points whose axes have one of the given values; None and [] leave an axis free. ValueError for a value of no point."""
        axes = {axis: [] if values is None else _values(values) for axis, values in axes.items()}
        for axis, values in axes.items():
            known = {p.get(axis) for p in self.points}
            unknown = [v for v in values if v not in known]
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
        points = [point for table in data["grid"] for point in _combinations(table)]
        grid = Grid(path.stem, data["run"], data["file"], points, data.get("settings", []), data.get("check", {}))
        files = [grid.path(p).name for p in points]
        grid.select(**grid.check)
        idle = [table for table in grid.settings if not any(_matches(table["where"], p) for p in points)]
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a grid file: {type(error).__name__} {error}; expected run, file and [[grid]] tables of axes and "
                         "their values, an axis for each {name} in file, a `where` in each [[settings]] table, and axes in `check`") from error
    if not _exists(grid.run):
        raise ValueError(f"{path}: there is no module {grid.run!r} to run; expected one with run(point, settings) -> RunRecord")
    if not points:
        raise ValueError(f"{path}: no run in it; give each [[grid]] table an axis, and each axis a value")
    if len(set(files)) < len(files):
        twice = next(f for f in files if files.count(f) > 1)
        raise ValueError(f"{path}: two points share the record {twice}; name every axis that varies in `file`")
    if idle:
        raise ValueError(f"{path}: the settings where {idle[0]['where']} are for no point of the grid; is an axis or a value misspelt?")
    return grid


def _combinations(table: dict) -> list[dict]:
    axes = list(reversed(table))
    for axis in axes:
        if isinstance(table[axis], dict):
            raise TypeError(f"{axis} = {table[axis]!r}, not a value or a list of values")
    return [dict(zip(axes, values)) for values in itertools.product(*(_values(table[axis]) for axis in axes))] if axes else []


def _values(values) -> list:
    """The values that an axis takes: one stands for a list of one."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, (str, dict)) else [values]


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def _matches(where: dict, point: dict) -> bool:
    return all(point.get(axis) in _values(values) for axis, values in where.items())
