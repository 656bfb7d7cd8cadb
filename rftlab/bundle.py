"""Everything that the course needs on a machine without network, such as a Kaggle notebook with the internet switched off.

    make kaggle-bundle                    # dist/kaggle/: a folder, and the same as a zip file
    python -m rftlab.bundle --python 3.13

The folder holds wheels (this package with its data, SmolLM2, and what TRL and transformers need) and the notebooks. On Kaggle:
upload it as a data set, add it to a notebook as an input, run the set-up cell. torch, numpy and pillow are the platform's own:
they are large, they belong to its GPU driver, and replacing them under a running kernel breaks it.
"""
import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from rftlab.install import MODEL
from rftlab.notebooks import ROOT

PLATFORM = {"torch", "numpy", "pillow", "triton", "sympy", "mpmath", "networkx", "setuptools"}  # and nvidia-*, cuda-*: torch's
TAGS = [f"manylinux_{libc}_x86_64" for libc in ("2_28", "2_27", "2_26", "2_24", "2_17")] + ["manylinux2014_x86_64"]
HOW_TO = """The course for a machine without network.

Kaggle: upload this folder as a data set (New Dataset; a zip file is unpacked there). Open a notebook of the folder `notebooks`
with File > Import Notebook, choose Add Input > Your Work > this data set, and run the set-up cell. It finds the wheels and
installs from them. Made for Python {python} on Linux; torch, numpy and pillow are the platform's own.
"""


def needed(python: str, extra: str = "train") -> list[str]:
    """The packages of the course and all that they need, as "name==version" from constraints.txt, without the platform's own.

    What this package needs stands in pyproject.toml; what those need is read from what is installed here. Raises LookupError
    for a package that constraints.txt does not pin.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(line.split("==")[0]): line for line in lines if "==" in line and not line.startswith("#")}
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "platform_system": "Linux",
            "platform_machine": "x86_64", "os_name": "posix", "implementation_name": "cpython"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    todo, found = [(project["dependencies"] + project["optional-dependencies"][extra], frozenset())], {}
    while todo:
        lines, extras = todo.pop()
        for one in map(Requirement, lines):
            other = canonicalize_name(one.name)
            applies = one.marker is None or any(one.marker.evaluate({**here, "extra": each}) for each in ("", *extras))
            if not applies or other in PLATFORM or other.startswith(("nvidia-", "cuda-")) or other in found and one.extras <= found[other]:
                continue
            found.setdefault(other, {""}).update(one.extras)  # a second visit when another extra is asked for
            with suppress(PackageNotFoundError):  # a dependency of another Python only
                todo.append((requires(other) or [], frozenset(one.extras)))
    if unpinned := sorted(found.keys() - pins.keys()):
        raise LookupError(f"constraints.txt does not pin {', '.join(unpinned)}")
    return sorted(pins[name] for name in found)


def own_wheel(folder: Path) -> None:
    """Build this package's wheel, from a copy: building in place would leave files in the clone."""
    with tempfile.TemporaryDirectory() as copy:
        source = Path(copy) / "source"
        for name in ("rftlab", "data"):
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in ("pyproject.toml", "LICENSE", "README.md"):
            shutil.copy(ROOT / name, source)
        pip("wheel", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(folder), str(source))


def pip(*arguments: str) -> None:
    """Run pip. Raises RuntimeError with its last words when it fails."""
    done = subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip {arguments[0]} failed:\n{done.stderr[-2000:]}")


def build(out: Path, python: str = "3.12", packages: list[str] | None = None) -> Path:
    """Make the bundle in `out`, anew; returns its folder. packages: "name==version" wheels, all that are needed by default."""
    folder = out / "rftlab-course"
    shutil.rmtree(folder, ignore_errors=True)
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    own_wheel(wheels)
    packages = [*needed(python), MODEL] if packages is None else packages
    if packages:
        abi = "cp" + python.replace(".", "")
        pip("download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--dest", str(wheels), "--python-version", python,
            "--implementation", "cp", *(f"--abi={one}" for one in (abi, "abi3", "none")), *(f"--platform={tag}" for tag in TAGS), *packages)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"))
    (folder / "HOW-TO.txt").write_text(HOW_TO.format(python=python), encoding="utf-8")
    return folder


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m rftlab.bundle", description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="3.12", help="the Python of the machine without network; Kaggle's is 3.12")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "kaggle")
    given = parser.parse_args(arguments)
    try:
        folder = build(given.out, given.python)
    except (RuntimeError, LookupError) as error:
        sys.exit(str(error))
    archive = shutil.make_archive(str(folder), "zip", folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    print(f"{folder}: {len(list((folder / 'wheels').iterdir()))} wheels, {sum(path.stat().st_size for path in files) / 1e6:.0f} MB; "
          f"the same as {Path(archive).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
