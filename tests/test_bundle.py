"""The bundle for machines without network: what is in it, and that the set-up cell installs from it with no network."""
import os
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

import pytest

from rftlab import bundle
from rftlab.notebooks import ROOT
from rftlab.setup_cell import setup_cell

PINS = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_what_is_needed_is_pinned_and_leaves_the_platforms_own_alone(python):
    packages = bundle.needed(python)
    names = {line.split("==")[0].lower() for line in packages}
    assert set(packages) <= PINS
    assert {"trl", "transformers", "tokenizers", "datasets", "peft", "accelerate", "gguf", "pyarrow", "xxhash",
            "aiohttp", "bitsandbytes"} <= names, "aiohttp is asked for by fsspec[http], after fsspec alone"
    assert not {"torch", "numpy", "pillow", "triton", "rftlab", "nbval", "jupyterlab", "ray"} & names


def test_every_package_of_the_extra_is_covered():
    """Whatever pip would look for when it installs rftlab[train] is in the bundle or the platform's own."""
    from importlib.metadata import distribution

    from packaging.requirements import Requirement

    names = {line.split("==")[0].lower().replace("_", "-") for line in bundle.needed("3.12")} | bundle.PLATFORM
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"] + project["optional-dependencies"]["train"]:
        assert Requirement(line).name.lower().replace("_", "-") in names, line
    for package in ("trl", "transformers", "datasets", "peft", "accelerate", "matplotlib"):
        for line in distribution(package).requires:
            one = Requirement(line)
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                assert one.name.lower().replace("_", "-") in names, f"{package} needs {one.name}"


def machine_without(folder, *hidden):
    """A Python that has every package of this one but those: its own site-packages, full of links."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    python = Path(folder, "bin", "python")
    site = Path(subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True,
                               check=True).stdout.strip())
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.lower().startswith(("__editable__", *hidden)) and not (site / path.name).exists():
            (site / path.name).symlink_to(path)
    return python


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the bundle is for Linux")
def test_the_set_up_cell_installs_from_the_bundle_without_network():
    with tempfile.TemporaryDirectory() as elsewhere:  # not below this clone, which the set-up cell would find
        folder = bundle.build(Path(elsewhere), packages=[])
        assert (folder / "notebooks" / "solutions").is_dir() and "Kaggle" in (folder / "HOW-TO.txt").read_text()
        wheel, = (folder / "wheels").iterdir()
        (folder / "wheels" / "another-1.0-py3-none-any.whl").touch()  # several wheels: no network is asked for
        python = machine_without(Path(elsewhere, "machine"), "rftlab")
        program = setup_cell("") + "\nprint(rftlab.__file__)\nprint(rftlab.load_policy('tiny').generate(['2 + 3 ='], max_new_tokens=2) != [''])"
        environment = {name: value for name, value in os.environ.items() if name not in ("RFTLAB_REPO", "PYTHONPATH")}
        dead = {"PIP_INDEX_URL": "http://127.0.0.1:9/none", "PIP_EXTRA_INDEX_URL": "", "PIP_CONFIG_FILE": os.devnull}
        done = subprocess.run([python, "-c", program], cwd=folder / "notebooks", env={**environment, **dead}, capture_output=True, text=True,
                              timeout=300)
        assert done.returncode == 0, done.stderr
        ready, file, answered = done.stdout.splitlines()[-3:]
        assert (ready, answered) == ("rftlab is ready", "True") and str(Path(elsewhere).resolve()) in str(Path(file).resolve())
        assert wheel.name.startswith("rftlab-")


def test_a_failure_of_pip_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="pip download failed"):
        bundle.pip("download", "--no-index", "--dest", str(tmp_path), "no-such-package-of-ours==1.0")
