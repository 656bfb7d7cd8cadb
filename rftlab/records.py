"""Run records: one JSON file a run, written atomically. Plots, prose and tests read these and nothing else."""
import json
import os
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

TIMES = ("seconds_cpu", "seconds_rollout", "seconds_reward", "seconds_update", "tokens_per_second")  # differ from run to run


def results_folder() -> Path:
    """data/results of this clone, or the copy inside an installed wheel."""
    here = Path(__file__).resolve().parent
    data = here.parent / "data"
    return (data if data.is_dir() else here / "_data") / "results"


@dataclass
class RunRecord:
    """One run. metrics: a dict a step; final: name -> {mean, low, high, n}; seconds: wall time of all sessions together."""

    experiment: str
    arm: str
    task: str
    model: str
    size: int | None
    seed: int
    config: dict
    versions: dict = field(default_factory=dict)
    device: str = ""
    commit: str = ""
    started: str = ""
    seconds: float = 0.0
    metrics: list = field(default_factory=list)
    final: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)  # samples of what the policy wrote, and the like

    def save(self, path) -> Path:
        """Write the record; a reader sees the old file or the new one, never half of one."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.write_text(json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")
        os.replace(scratch, path)
        return path

    @classmethod
    def load(cls, path) -> "RunRecord":
        """Read a record. Raises ValueError for a file that is not one."""
        try:
            return cls(**json.loads(Path(path).read_text()))
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a run record ({error}); expected the JSON that RunRecord.save writes") from error

    def curve(self, metric) -> tuple[list, list]:
        """(steps, values) of one metric, leaving out the steps that did not measure it."""
        points = [(m["step"], m[metric]) for m in self.metrics if m.get(metric) is not None]
        return [p[0] for p in points], [p[1] for p in points]

    def sample(self, policy, problems, max_new_tokens) -> None:
        """Keep what the policy now writes, greedily, to a few problems: notes["samples"]."""
        texts = policy.generate([p.prompt for p in problems], max_new_tokens)
        self.notes["samples"] = [{"prompt": p.prompt, "answer": p.answer, "completion": c} for p, c in zip(problems, texts)]

    def without_times(self) -> dict:
        """What two runs of one configuration must share on one machine: everything that is no clock reading."""
        data = asdict(self)
        for key in ("started", "seconds", "commit"):
            del data[key]
        data["metrics"] = [{k: v for k, v in m.items() if k not in TIMES} for m in self.metrics]
        return data


def new(experiment, arm, task, model, size, seed, config) -> RunRecord:
    """A record that says what code and machine make it."""
    from rftlab import machine

    return RunRecord(experiment, arm, task, model, size, seed, config, **machine.environment(), commit=commit(),
                     started=datetime.now(timezone.utc).isoformat(timespec="seconds"))


def commit() -> str:
    """The commit of this code, with "+" where tracked files differ from it; "" outside a clone."""
    root = Path(__file__).resolve().parents[1]
    try:
        def git(*words):
            return subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True).stdout.strip()
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno", "--", "rftlab") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def load_all(experiment, folder=None) -> list[RunRecord]:
    """Every record of an experiment, in the order of file names. Raises FileNotFoundError when there is none."""
    place = Path(folder or results_folder()) / experiment
    found = sorted(place.glob("*.json"))
    if not found:
        raise FileNotFoundError(f"no records in {place}; make them with `python -m rftlab experiment {experiment}`")
    return [RunRecord.load(path) for path in found]


def publish(name, block, readme) -> None:
    """Put a table made from records between the marks <!-- name --> and <!-- /name --> of a README, and change nothing else."""
    head, rest = readme.read_text(encoding="utf-8").split(f"<!-- {name} -->", 1)
    end = f"<!-- /{name} -->"
    readme.write_text(f"{head}<!-- {name} -->\n{block}\n{end}" + rest.split(end, 1)[1], encoding="utf-8")
