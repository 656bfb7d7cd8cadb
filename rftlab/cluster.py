"""The runs of a grid on an existing Ray cluster: `python -m rftlab experiment NAME --on ray` (extra rftlab[scale]).

Every node needs this package and the models that the grid uses, and no disk in common with the others: a run sends its
record back, and the driver saves it. Ray starts a run anew when its node or its process dies, up to RETRIES times; whatever
is lost beyond that is noted as a failure, as a local run's is. When the driver itself is killed, start it again.
"""
import os
import socket

from rftlab import experiments

RETRIES = 3  # a process that dies every time, for want of memory perhaps, must not run for ever


def results(grid, todo, results_folder=None):
    """Yield (point, error) as the runs end on the cluster that RAY_ADDRESS names, one CPU and one torch thread a run.

    Raises ModuleNotFoundError without ray, ConnectionError when no cluster answers.
    """
    if not todo:
        return
    ray = connect()
    compute = ray.remote(num_cpus=1, max_retries=RETRIES)(experiments.compute)
    running = {compute.remote(grid, point, threads=1): point for point in todo}
    try:
        while running:
            for ended in ray.wait(list(running), num_returns=1)[0]:
                point = running.pop(ended)
                try:
                    record, trouble = ray.get(ended)
                except ray.exceptions.RayError as error:  # what Ray could not mend; a run's own errors come back as `trouble`
                    record, trouble = None, f"{type(error).__name__}: {str(error).strip()}"
                yield point, experiments.keep(grid, point, record, trouble, results_folder)
    finally:
        for left in running:
            ray.cancel(left)
        ray.shutdown()


def connect():
    """The ray module, connected to the cluster at RAY_ADDRESS, or to the one that runs on this machine; starts none."""
    address = os.environ.get("RAY_ADDRESS") or "auto"
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # 20 times 40 s, until Ray believes that a cluster is gone
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("ray is not installed, and runs on a cluster need it: `pip install \"rftlab[scale]\"`, here "
                                  "and on every node") from error
    if ray.is_initialized():
        return ray
    try:
        host, _, port = address.rpartition("://")[2].rpartition(":")
        if host:  # asked first, since Ray itself takes a minute to say no
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level="WARNING")
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: another version of ray or Python there
        raise ConnectionError(f"no Ray cluster to use at {address!r} ({str(error).strip().splitlines()[0]}); start one with "
                              "`ray start --head`, or set RAY_ADDRESS to host:port of its head") from error
    return ray
