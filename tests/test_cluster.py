"""Runs on Ray: a real cluster of two nodes, one of which is killed in the middle, loses nothing."""
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import Counter

import pytest
import torch
from grid_runs import RUNS, begun, failures, saved, wait_for, write_grid

from rftlab import experiments
from rftlab.__main__ import main

ray_missing = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('ray')",
                                 reason='ray is not installed; pip install "rftlab[scale]"')
DRIVER = """
import sys
from rftlab import cluster, experiments
cluster.RETRIES = 1
sys.exit(experiments.run(sys.argv[1], on="ray", results=sys.argv[2]))
"""
REAL = {"max_new_tokens": 16, "validation": 4, "test": 4, "larger": 4, "pass_problems": 2, "pass_samples": 4, "patience": 2,
        "steps": 1, "eval_every": 1, "group_size": 2, "prompts_per_step": 2, "lr": 3e-4}


@pytest.fixture
def two_nodes(monkeypatch):
    """(Ray's handle on a cluster of two nodes with a CPU each, the node that is not its head); addresses of the loopback."""
    from ray.cluster_utils import Cluster

    settings = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(RUNS), "OMP_NUM_THREADS": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_log_monitor": False}
    made = Cluster()
    try:
        made.add_node(**node, node_ip_address="127.0.0.2", include_dashboard=False, no_monitor=True)
        yield made, made.add_node(**node, node_ip_address="127.0.0.3")
    finally:
        made.shutdown()


@ray_missing
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address, and two nodes need two")
def test_a_node_is_killed_and_nothing_is_lost(tmp_path, two_nodes):
    """Four quick runs, one that fails, one of data-size, and one that kills its process. Until a node is dead none of them ends."""
    made, doomed = two_nodes
    (here := tmp_path / "here").mkdir()
    (there := tmp_path / "there").mkdir()
    sound = {"seed": [0, 1, 2, 3]}, {"arm": ["bad", "rft"], "seed": [0]}
    path = write_grid(there, *sound, {"arm": ["dies"], "seed": [0]}, gate=str(there / "gate"), **REAL)
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, path, there], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env={**os.environ, "RAY_ADDRESS": made.address})
    wait_for(lambda: len(begun(there)) == 2 or driver.poll() is not None, 900)
    lost, = [run for run in begun(there) if run["node"] == doomed.node_id]
    made.remove_node(doomed, allow_graceful=False)
    with contextlib.suppress(ProcessLookupError):  # a run may outlive its node's daemon by a second, and still deliver
        os.kill(lost["pid"], signal.SIGKILL)
    assert not (there / "small").exists()
    (there / "gate").touch()
    out = driver.communicate(timeout=900)[0]
    assert driver.returncode == 2, out  # two failures, and no more
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert experiments.run(write_grid(here, *sound, **REAL), results=here) == 1
    finally:
        torch.set_num_threads(threads)
    assert saved(there) == saved(here) and len(saved(here)) == 5
    assert saved(here)["rft-n10-seed0"]["metrics"]
    assert set(failures(there)) == {"bad-n10-seed0", "dies-n10-seed0"} and set(failures(here)) == {"bad-n10-seed0"}
    assert "nothing good comes of seed 0" in failures(there)["bad-n10-seed0"]["error"]
    assert "WorkerCrashedError" in failures(there)["dies-n10-seed0"]["error"]
    times = Counter((run["arm"], run["seed"]) for run in begun(there))
    assert times == {**dict.fromkeys([("ok", 0), ("ok", 1), ("ok", 2), ("ok", 3), ("bad", 0), ("rft", 0)], 1), ("dies", 0): 2,
                     (lost["arm"], lost["seed"]): 2}


@ray_missing
def test_without_a_cluster_the_message_says_so(tmp_path, monkeypatch, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
    assert main(["experiment", str(write_grid(tmp_path)), "--on", "ray"]) == 1
    error = capsys.readouterr().err
    assert "no Ray cluster to use at '127.0.0.1:" in error and "Connection refused" in error and "ray start --head" in error
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:near")
    with pytest.raises(ConnectionError, match="no Ray cluster to use at 'somewhere:near'"):
        experiments.run(write_grid(tmp_path), on="ray", results=tmp_path)
    assert begun(tmp_path) == []


def test_without_ray_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r'ray is not installed.*pip install "rftlab\[scale\]"'):
        experiments.run(write_grid(tmp_path), on="ray", results=tmp_path)


def test_a_grid_with_all_its_records_needs_no_cluster(tmp_path, monkeypatch):
    path = write_grid(tmp_path)
    experiments.run(path, results=tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert experiments.run(path, on="ray", results=tmp_path) == 0
