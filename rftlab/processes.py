"""The runs of a grid in several processes of this machine: `python -m rftlab experiment NAME --jobs N`."""
import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing import connection

from rftlab import experiments

DIED = "the process died: out of memory, or killed"


def results(grid, todo, jobs, results_folder=None):
    """Yield (point, error) as the runs end.

    The processes stay, since each imports torch once; one that dies costs its own run and is replaced. They share the cores,
    unless OMP_NUM_THREADS says how many each may use. ValueError for no process at all.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    waiting, idle, busy, processes = list(reversed(todo)), [], {}, {}
    threads = None if "OMP_NUM_THREADS" in os.environ else max(1, (os.cpu_count() or 1) // jobs)
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                pipe = idle.pop() if idle else _start(processes, grid, threads, results_folder)
                busy[pipe] = waiting.pop()
                with contextlib.suppress(BrokenPipeError):  # it died between two runs; reading from it will say so
                    pipe.send(busy[pipe])
            for pipe in connection.wait(list(busy)):
                point = busy.pop(pipe)
                try:
                    error = pipe.recv()
                    idle.append(pipe)
                except (EOFError, ConnectionResetError):
                    error = experiments.keep(grid, point, None, DIED, results_folder)
                yield point, error
    finally:
        for pipe, process in processes.items():
            if pipe in idle:
                pipe.close()  # it ends by itself and leaves no semaphore of its libraries behind
                process.join(10)
            process.kill()


def _start(processes, grid, threads, results_folder):
    """Start a process; returns the pipe that takes points and gives errors."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    processes[ours] = context.Process(target=_serve, args=(theirs, grid, threads, results_folder))
    processes[ours].start()
    theirs.close()  # else the pipe would outlive the process, and nobody would notice its death
    return ours


def _serve(pipe, grid, threads, results_folder):
    """In the process: run the points that come, until the pipe is closed or the process killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the first process decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(experiments.run_point(grid, pipe.recv(), results_folder, threads))


def _die_with_parent():
    """A run that outlived a killed grid would be run twice when the grid is started again."""
    multiprocessing.parent_process().join()
    os._exit(1)
