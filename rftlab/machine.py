"""What this machine can do, tried rather than asked: a T4 claims bfloat16, some GPUs claim CUDA and then fail every kernel."""
import functools
import os
import platform
import shutil
import sys
import time
from pathlib import Path


INSTALL_UNSLOTH = ("to have it: `pip install --no-deps unsloth==2026.10.9 unsloth_zoo==2026.10.9` (with a GPU, without "
                   "--no-deps)")


def cache_dir() -> Path:
    """Where converted models live: $RFTLAB_CACHE, else the user's cache folder."""
    if "RFTLAB_CACHE" in os.environ:
        return Path(os.environ["RFTLAB_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rftlab"


def cpu_name() -> str:
    """The processor's model name, for run records."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@functools.cache
def device() -> str:
    """"cuda" when a real multiplication succeeds there, else "cpu"."""
    import torch

    if torch.cuda.is_available():
        try:
            ones = torch.ones(8, 8, device="cuda")
            if float((ones @ ones)[0, 0]) == 8.0:
                return "cuda"
        except RuntimeError:
            pass
    return "cpu"


def median_seconds(f, runs=7) -> float:
    """Median wall time of f(), after one warm-up call."""
    f()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return sorted(times)[runs // 2]


def matmul_flops(dtype, rows=256, runs=7) -> float:
    """Measured floating-point operations per second of a (rows, 576) x (576, 1536) product, SmolLM2's commonest."""
    import torch

    x, w = torch.randn(rows, 576).to(dtype), torch.randn(1536, 576).to(dtype)
    return 2 * rows * 576 * 1536 / median_seconds(lambda: torch.nn.functional.linear(x, w), runs)


def memory_bandwidth(runs=5) -> float:
    """Measured bytes per second when reading 256 MB once."""
    import torch

    x = torch.zeros(64 * 2**20)
    return x.numel() * 4 / median_seconds(lambda: x.sum(), runs)


@functools.cache
def fast_dtype() -> str:
    """"bfloat16", "float16" or "float32": on a GPU by its generation, on a CPU by timing one product in each."""
    import torch

    if device() == "cuda":
        capability = torch.cuda.get_device_capability()
        return "bfloat16" if capability >= (8, 0) else "float16" if capability >= (7, 0) else "float32"
    rates = {name: matmul_flops(getattr(torch, name)) for name in ("bfloat16", "float16")}
    fastest = max(rates, key=rates.get)
    return fastest if rates[fastest] > 1.2 * matmul_flops(torch.float32) else "float32"


@functools.cache
def profile() -> str:
    """cpu, t4 or h100: which sizes a notebook should choose. $RFT_PROFILE overrides ("ci" counts as cpu)."""
    import torch

    asked = os.environ.get("RFT_PROFILE", "")
    if asked in ("cpu", "t4", "h100"):
        return asked
    if asked not in ("", "ci"):
        raise ValueError(f"RFT_PROFILE={asked!r}; expected cpu, t4, h100 or ci")
    if asked == "ci" or device() == "cpu":
        return "cpu"
    return "h100" if torch.cuda.get_device_properties(0).total_memory > 30e9 else "t4"


def environment() -> dict:
    """Versions and device as they stand in a run record."""
    import importlib.metadata as meta

    import torch

    versions = {"python": platform.python_version()}
    for name in ("torch", "transformers", "numpy", "peft", "trl", "datasets"):
        try:
            versions[name] = meta.version(name)
        except meta.PackageNotFoundError:
            pass
    where = torch.cuda.get_device_name() if device() == "cuda" else f"{cpu_name()}, {torch.get_num_threads()} threads"
    return {"versions": versions, "device": where}


def doctor() -> list[tuple[str, str, str]]:
    """(what, measured, what it means) for each thing that the course depends on."""
    import torch

    from rftlab import models
    from rftlab.kernels import lockdown

    rows = [("Python", platform.python_version(), "needs 3.11 to 3.13")]
    where = environment()["device"]
    rows.append(("Device", where, f"profile {profile()}: " + {
        "cpu": "tiny trains in seconds, smollm2 in minutes", "t4": "smollm2 in minutes, 0.5-1.5 B with LoRA",
        "h100": "up to 8 B with LoRA"}[profile()]))
    if device() == "cpu":
        kinds = ("float32", "bfloat16", "float16")
        rates = " / ".join(f"{matmul_flops(getattr(torch, kind)) / 1e9:.0f}" for kind in kinds)
        rows.append((f"Matmul {' / '.join(kinds)}", f"{rates} GFLOP/s", f"smollm2 will run in {fast_dtype()}"))
        rows.append(("Memory bandwidth", f"{memory_bandwidth() / 1e9:.0f} GB/s",
                     "bounds how fast one answer is written"))
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    rows.append(("Free disk", f"{free:.0f} GB", "enough" if free > 4 else "too little: make room, 4 GB are needed"))
    for name in ("tiny", "smollm2"):
        found, note = models.available(name)
        rows.append((f"Model {name}", "found" if found else "missing", note))
    for package, use in (("trl", "notebook 11, bench"), ("peft", "notebooks 06, 11"), ("datasets", "notebook 11"),
                         ("triton", "notebooks 08 to 10")):
        version = sys.modules.get(package) and sys.modules[package].__version__ or _version(package)
        rows.append((f"Package {package}", version or "missing", f"used by {use}"))
    found = _version("unsloth")
    rows.append(("Package unsloth", found or "missing", "used by notebook 11" if found else
                 "notebook 11 takes transformers, PEFT and TRL directly; " + INSTALL_UNSLOTH))
    rows.append(lockdown.doctor())
    return rows


def _version(package):
    import importlib.metadata as meta

    try:
        return meta.version(package)
    except meta.PackageNotFoundError:
        return ""
