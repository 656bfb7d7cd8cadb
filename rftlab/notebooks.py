"""Run the course's notebooks, and record them.

`make course` runs every notebook from a fresh kernel, keeps the executed copies in build/notebooks/ and shows one line a
notebook: its time and its headline, which is the last line that the cell tagged `headline` prints. `make record NB=01`
runs one and stores its outputs in place: those are what `make test` compares with.
"""
import argparse
import base64
import io
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rftlab.setup_cell import SETUP_CELL  # noqa: F401  the third cell of every notebook

ROOT = Path(__file__).resolve().parents[1]
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
CELL_TIMEOUT = 1800  # seconds; far more than any cell takes, so that a hang ends some day
KERNEL_START_TIMEOUT = 300  # seconds; a busy machine needs many for what takes one


@dataclass(frozen=True)
class NotebookRun:
    name: str
    seconds: float
    headline: str  # "" when no cell carries the tag
    error: str     # "" when every cell ran


def quiet_folders() -> dict:
    """Environment that keeps what Jupyter, IPython, matplotlib and compilers write in build/ of the clone, which it makes."""
    build = (ROOT if (ROOT / "Makefile").is_file() else Path.cwd()) / "build"
    names = {"IPYTHONDIR": "ipython", "JUPYTER_CONFIG_DIR": "jupyter/config", "JUPYTER_DATA_DIR": "jupyter/data",
             "JUPYTER_RUNTIME_DIR": "jupyter/runtime", "MPLCONFIGDIR": "matplotlib", "TRITON_CACHE_DIR": "triton",
             "TORCHINDUCTOR_CACHE_DIR": "inductor"}
    for folder in names.values():
        (build / folder).mkdir(parents=True, exist_ok=True)
    return {name: str(build / folder) for name, folder in names.items()}


def recording_environment() -> dict:
    """Environment in which stored outputs come about: no network, small sizes, arithmetic as equal between machines as can be.

    Two threads and the AVX2 code paths, because sums in another order round differently, and one rounding difference can
    send a sampled training run another way. Threads that wait sleep instead of spinning: on a machine with other work the
    same training took 69 s so, and 570 s otherwise. Kernels inherit all this; it has to be set before torch starts.
    """
    arithmetic = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    if platform.machine() in ("x86_64", "AMD64"):
        arithmetic |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
    return {"RFT_PROFILE": "ci", "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false", **arithmetic}


def course_notebooks() -> list[Path]:
    """The notebooks in reading order, the appendix (A1) last."""
    return sorted((ROOT / "notebooks").glob("[0-9A][0-9]_*.ipynb"))


def find_notebook(name: str) -> Path:
    """The one notebook meant by a path or by the beginning of a file name ("01"). Raises FileNotFoundError otherwise."""
    found = [Path(name)] if name.endswith(".ipynb") else [p for p in course_notebooks() if p.name.startswith(name)]
    if len(found) != 1 or not found[0].is_file():
        raise FileNotFoundError(f"{name!r} names {len(found)} notebooks; give a path or a number out of "
                                f"{', '.join(p.name[:2] for p in course_notebooks())}")
    return found[0]


def headline(notebook) -> str:
    """The last line of text that the cell tagged `headline` put out, "" where there is none."""
    lines = []
    for cell in notebook.cells:
        if "headline" in cell.metadata.get("tags", []):
            for output in cell.get("outputs", []):
                text = output.get("text") or output.get("data", {}).get("text/plain", "")
                lines += [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def execute(path: Path, on_cell=None):
    """Run a notebook from a fresh kernel in its own folder, as stored on disk.

    Returns (notebook, error): the notebook with its new outputs up to the cell that failed, and what failed ("" if nothing).
    on_cell(number) is called as each code cell begins.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    code = [cell.id for cell in notebook.cells if cell.cell_type == "code"]
    current = [0]

    def begin(cell, cell_index):
        if cell.cell_type == "code":
            current[0] = code.index(cell.id) + 1
            if on_cell:
                on_cell(current[0])

    client = NotebookClient(notebook, timeout=CELL_TIMEOUT, startup_timeout=KERNEL_START_TIMEOUT, kernel_name="python3",
                            resources={"metadata": {"path": str(path.parent)}}, record_timing=False, on_cell_start=begin,
                            extra_arguments=["--log-level=ERROR"])
    try:
        client.execute()
    except CellExecutionError as error:
        return notebook, f"code cell {current[0]}: {error.ename}: {error.evalue}"
    except CellTimeoutError:
        return notebook, f"code cell {current[0]}: no end after {CELL_TIMEOUT} s"
    except DeadKernelError:
        return notebook, f"code cell {current[0]}: the kernel died (out of memory?)"
    return notebook, ""


def normalise(notebook):
    """Drop from a notebook, in place, what differs between runs and machines: timestamps, widget state, versions."""
    kept = {key: notebook.metadata[key] for key in ("accelerator", "colab") if key in notebook.metadata}
    notebook.metadata.clear()
    notebook.metadata.update({"kernelspec": dict(KERNELSPEC), "language_info": {"name": "python"}, **kept})
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata.clear()
        if tags:
            cell.metadata["tags"] = tags
    return notebook


def run_all(paths=None, out: Path = ROOT / "build" / "notebooks") -> list[NotebookRun]:
    """Run notebooks one after another under a progress bar; executed copies go to `out`. A failure stops only its own."""
    import nbformat
    from tqdm import tqdm

    os.environ.update({**quiet_folders(), **recording_environment()})
    paths = list(paths or course_notebooks())
    cells = {path: sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells) for path in paths}
    out.mkdir(parents=True, exist_ok=True)
    runs = []
    with tqdm(total=sum(cells.values()), unit="cell", mininterval=0.1 if sys.stderr.isatty() else 10) as bar:
        done = 0
        for path in paths:
            begin = time.perf_counter()
            bar.set_description(path.stem)
            notebook, error = execute(path, on_cell=lambda number: bar.update(done + number - 1 - bar.n))
            done += cells[path]
            bar.update(done - bar.n)
            nbformat.write(notebook, out / path.name)
            runs.append(NotebookRun(path.stem, time.perf_counter() - begin, headline(notebook), error))
    return runs


def summary(runs: list[NotebookRun], width: int = 100) -> str:
    """One line a notebook: name, time, and the headline or what failed."""
    def clock(seconds):
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"

    wide = max(len(run.name) for run in runs)
    lines = [f"{run.name:<{wide}}  {clock(run.seconds):>6}  "
             + (f"FAILED in {run.error}" if run.error else run.headline or "ran") for run in runs]
    failed = sum(bool(run.error) for run in runs)
    total = (f"{len(runs)} notebook{'s' * (len(runs) > 1)} in {clock(sum(run.seconds for run in runs))}, "
             + (f"{failed} failed" if failed else "all ran"))
    return "\n".join([line if len(line) <= width else line[:width - 3] + "..." for line in lines] + ["", total])


def record(path: Path) -> None:
    """Run a notebook and store its outputs in place. Raises RuntimeError, and leaves the file alone, when a cell fails."""
    import nbformat

    os.environ.update({**quiet_folders(), **recording_environment()})
    notebook, error = execute(path)
    if error:
        raise RuntimeError(f"{path.name} was not recorded; it failed in {error}")
    for data in (output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})):
        data["image/png"] = with_palette(data["image/png"])
    nbformat.write(normalise(notebook), path)


def with_palette(png: str) -> str:
    """A figure in base64, with 128 colours in place of millions: charts have few, and a third of the bytes."""
    from PIL import Image

    small = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(128).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m rftlab.notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["course", "lab", "record"])
    parser.add_argument("names", nargs="*", help="notebooks: a path, or the number at the beginning; course and record only")
    given = parser.parse_args(arguments)
    if given.what == "lab":
        return open_lab()
    try:
        paths = [find_notebook(name) for name in given.names]
        if given.what == "record":
            if not paths:
                parser.error("say which notebook to record: make record NB=01")
            for path in paths:
                record(path)
                print(f"recorded {path}")
            return 0
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(str(error))
    runs = run_all(paths)
    folder = os.path.relpath(ROOT / "build" / "notebooks")
    print(f"\n{summary(runs)}\nExecuted copies: {folder}{os.sep}   To work with the notebooks: make lab")
    return int(any(run.error for run in runs))


def open_lab() -> int:
    """JupyterLab on the first notebook, with its settings and caches in build/ and not in the home folder."""
    os.environ.update(quiet_folders())
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={ROOT}",
               "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # as in most containers; Jupyter would stop otherwise
    with suppress(KeyboardInterrupt):
        return subprocess.run(command).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
