"""The deck's code blocks, run one after another, and its 32 wrong claims as a table (data/deck/errata.toml).

Each set of blocks runs in a process of its own, in an empty folder, without network. Where a block names a model that would
have to be fetched, the tiny model stands in. A block that fails is followed by its mended version, so that the next one
fails or runs for its own reasons.
"""
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass

from rftlab import models

DECKS_MODEL = "unsloth/llama-3.1-8b-bnb-4bit"
WORKFLOW = ("imports", "load", "adapters", "dataset", "format", "arguments", "trainer", "train", "answer", "save")
TIMEOUT = 600  # seconds, for all blocks of one process
# Unsloth on a CPU, in float32 as everywhere in this course; `UNSLOTH_DISABLE_STATISTICS` and HF's variable keep it quiet.
QUIET = {"UNSLOTH_FORCE_CPU": "1", "UNSLOTH_CPU_BF16": "0", "UNSLOTH_DISABLE_STATISTICS": "1", "HF_HUB_OFFLINE": "1",
         "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}


@dataclass(frozen=True)
class Block:
    """A piece of code on a slide; `mended` is "" where it needs no mending."""

    name: str
    slide: str
    code: str
    mended: str = ""
    erratum: int = 0


@dataclass(frozen=True)
class Erratum:
    number: int
    slide: str
    claim: str
    truth: str
    source: str
    chapter: str  # "02": the notebook in which it is measured or explained


@dataclass(frozen=True)
class Outcome:
    """What running a block did: `said` is the error's last line, "" when it ran."""

    ran: bool
    said: str

    def __str__(self) -> str:
        return "runs" if self.ran else self.said


def load() -> tuple[dict[str, Block], dict[int, Erratum]]:
    """The blocks by name and the errata by number, in the order of the deck."""
    text = (models.tiny_folder().parents[1] / "deck" / "errata.toml").read_text(encoding="utf-8")
    found = tomllib.loads(text)
    return ({one["name"]: Block(**one) for one in found["block"]}, {one["number"]: Erratum(**one) for one in found["erratum"]})


def run(pieces: list[tuple[str, str]]) -> dict[str, Outcome]:
    """Run pieces of code, (name, code) each, in one namespace in a fresh process. A piece that fails does not stop the rest.

    Raises RuntimeError when the process itself dies.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)  # rftlab may come from sys.path alone
    environment = {**{k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}, **QUIET, "PYTHONPATH": path}
    request = [(name, code.replace(DECKS_MODEL, models.tiny_folder().as_posix())) for name, code in pieces]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-m", "rftlab.deck_errata"], input=json.dumps(request), cwd=folder, env=environment,
                              capture_output=True, text=True, timeout=TIMEOUT)
        try:
            with open(os.path.join(folder, "outcomes.json"), encoding="utf-8") as file:
                return {name: Outcome(*outcome) for name, outcome in json.load(file).items()}
        except FileNotFoundError:
            raise RuntimeError(f"the process that ran the deck's blocks died:\n{done.stderr[-2000:]}") from None


def run_workflow(blocks: dict[str, Block]) -> dict[str, Outcome]:
    """The deck's six steps with Unsloth, block by block; "<name>, mended" is the mended version where there is one."""
    pieces = []
    for name in WORKFLOW:
        block = blocks[name]
        pieces += [(name, block.code)] + ([(f"{name}, mended", block.mended)] if block.mended else [])
    return run(pieces)


def table(errata: dict[int, Erratum], happens: dict[int, str]) -> str:
    """All errata as a table in Markdown: claim, what happened here, truth, source, notebook.

    happens: for each erratum what came out when it was run or looked up; "" where nothing can be run. Raises KeyError if one is missing.
    """
    from rftlab.notebooks import course_notebooks

    chapters = {path.name[:2]: path.name for path in course_notebooks()}
    rows = ["| | the deck says | run or looked up here | what holds | source | notebook |", "|---|---|---|---|---|---|"]
    for number, one in errata.items():
        chapter = f"[{one.chapter}]({chapters[one.chapter]})" if one.chapter in chapters else one.chapter
        cells = (f"E{number}", f"*{one.slide}*: {one.claim}", happens[number] or "not a thing to run", one.truth, one.source, chapter)
        rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(rows)


def _last_line(error: BaseException) -> str:
    """As the end of a traceback shows it: the class, and the first line of the message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


def main() -> None:
    """The process: pieces from standard input, outcomes into a file. What the pieces print goes nowhere."""
    pieces, namespace, outcomes = json.load(sys.stdin), {}, {}
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    for name, code in pieces:
        try:
            exec(compile(code, name, "exec"), namespace)
            outcomes[name] = (True, "")
        except Exception as error:
            outcomes[name] = (False, _last_line(error))
    with open("outcomes.json", "w", encoding="utf-8") as file:
        json.dump(outcomes, file)


if __name__ == "__main__":
    main()
