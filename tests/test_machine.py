"""What the machine can do is tried, and an odd request is refused."""
import pytest
import torch

from rftlab import machine


@pytest.fixture(autouse=True)
def fresh():
    for cached in (machine.device, machine.profile, machine.fast_dtype):
        cached.cache_clear()
    yield
    for cached in (machine.device, machine.profile, machine.fast_dtype):
        cached.cache_clear()


def test_a_gpu_that_fails_its_first_product_is_no_gpu(monkeypatch):
    """As a Kaggle P100: is_available says True, every kernel raises."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def broken(*size, device=None):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch, "ones", broken)
    assert machine.device() == "cpu"


def test_profile(monkeypatch):
    monkeypatch.setenv("RFT_PROFILE", "t4")
    assert machine.profile() == "t4"
    machine.profile.cache_clear()
    monkeypatch.setenv("RFT_PROFILE", "ci")
    assert machine.profile() == "cpu"
    machine.profile.cache_clear()
    monkeypatch.setenv("RFT_PROFILE", "toaster")
    with pytest.raises(ValueError, match="expected cpu, t4, h100 or ci"):
        machine.profile()


@pytest.mark.parametrize("brain, half, expected", [
    (500.0, 90.0, "bfloat16"), (90.0, 110.0, "float32"), (100.0, 200.0, "float16"), (400.0, 300.0, "bfloat16")])
def test_the_fastest_dtype_is_measured(monkeypatch, brain, half, expected):
    rates = {torch.float32: 100.0, torch.bfloat16: brain, torch.float16: half}
    monkeypatch.setattr(machine, "device", lambda: "cpu")
    monkeypatch.setattr(machine, "matmul_flops", rates.get)
    assert machine.fast_dtype() == expected


@pytest.mark.parametrize("capability, expected", [((6, 0), "float32"), ((7, 5), "float16"), ((8, 0), "bfloat16")])
def test_a_gpu_is_known_by_its_generation(monkeypatch, capability, expected):
    """A T4 (7.5) says that it supports bfloat16, and emulates it."""
    monkeypatch.setattr(machine, "device", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert machine.fast_dtype() == expected


def test_measurements_are_plausible():
    assert 1e8 < machine.matmul_flops(torch.float32, rows=64, runs=3) < 1e15
    assert 1e8 < machine.memory_bandwidth(runs=3) < 1e13
    assert machine.cpu_name() and machine.environment()["versions"]["torch"] == torch.__version__


def test_the_cache_is_where_one_says(monkeypatch, tmp_path):
    monkeypatch.setenv("RFTLAB_CACHE", str(tmp_path))
    assert machine.cache_dir() == tmp_path
    monkeypatch.delenv("RFTLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine.cache_dir() == tmp_path / "rftlab"
