"""The sanitizer on hand-made accesses: addresses outside, undefined lanes, races and what orders them."""
import numpy as np
import pytest

from rftlab.kernels.sanitizer import Sanitizer, undefined

BASE = 4096
SPAN = (BASE, BASE + 64)  # sixteen float32


def at(*elements):
    return np.array([BASE + 4 * e for e in elements], np.uint64)


def see(watch, program, kind, elements, values=None, orders=False):
    watch.program = program
    watch.see(kind, at(*elements), np.ones(len(elements), bool), 4, None if values is None else np.array(values, np.float32), orders)


def findings(*accesses):
    watch = Sanitizer([SPAN])
    for access in accesses:
        see(watch, *access)
    return {kind: n for kind, n in watch.close().items() if n}


def test_lanes_outside_are_counted_and_switched_off():
    watch = Sanitizer([SPAN, (BASE + 128, BASE + 192)])
    mask = watch.see("load", at(-1, 0, 15, 16, 32), np.array([True, True, True, True, False]), 4)
    assert mask.tolist() == [False, True, True, False, False]
    assert watch.close() == {"loads outside": 2}


def test_an_element_that_ends_outside_is_outside():
    watch = Sanitizer([SPAN])
    assert not watch.see("store", at(15), np.ones(1, bool), 8, np.zeros(1)).any()


@pytest.mark.parametrize("accesses", [
    [(0, "store", [0, 1], [1, 2]), (1, "store", [2, 3], [3, 4])],
    [(0, "load", [0, 1]), (1, "load", [0, 1])],
    [(0, "store", [0], [5]), (1, "store", [0], [5])],  # equal values
    [(0, "load", [0, 1]), (0, "store", [0, 1], [1, 2]), (1, "load", [2, 3]), (1, "store", [2, 3], [1, 2])],  # in place
    [(0, "atomic", [0]), (1, "atomic", [0])],
    [(0, "store", [0, 0], [5, 5])],
])  # fmt: skip
def test_what_is_no_race(accesses):
    assert findings(*accesses) == {}


@pytest.mark.parametrize("accesses", [
    [(0, "store", [0], [1]), (1, "store", [0], [2])],
    [(0, "load", [0]), (0, "store", [0], [1]), (1, "load", [0]), (1, "store", [0], [2])],  # accumulating without atomics
    [(1, "load", [0]), (0, "store", [0], [1])],  # read before it is written, in this order
    [(0, "store", [0], [1]), (1, "load", [0])],  # and after it
    [(0, "store", [0], [0]), (1, "atomic", [0])],  # zeroed by one program, added to by another
    [(0, "atomic", [0]), (1, "load", [0])],
])  # fmt: skip
def test_what_is_a_race(accesses):
    assert findings(*accesses)["races"]
    assert findings(*reversed(accesses))["races"]  # whatever the order of the programs


def test_lanes_of_one_store_that_disagree_race():
    assert findings((0, "store", [3, 3], [1, 2])) == {"races": 1}


def counter(decides):
    """Two programs: each stores a part and counts up; the last one sums the parts."""
    watch = Sanitizer([SPAN])
    for program in (0, 1):
        see(watch, program, "store", [program], [1])
        see(watch, program, "atomic", [8], orders=True)
        if decides:
            watch.latest.outcomes.add(program == 1)
    see(watch, 1, "load", [0, 1])
    return watch.close()["races"]


def test_a_counter_that_decides_orders_what_comes_before_and_after():
    assert counter(decides=True) == 0
    assert counter(decides=False) == 1


def test_a_lock_orders():
    watch = Sanitizer([SPAN])
    assert [watch.refuses(9) for _ in range(3)] == [False, True, False]  # the second program is sent back once
    for program in (0, 1):
        see(watch, program, "atomic", [8], orders=True)
        watch.latest.locks = True
        watch.latest.outcomes.add(False)
        see(watch, program, "load", [0])
        see(watch, program, "store", [0], [program])
        see(watch, program, "atomic", [8], orders=True)
    assert watch.close()["races"] == 0


def test_loading_what_another_lane_stored_needs_a_barrier():
    watch = Sanitizer([SPAN])
    see(watch, 0, "store", [0, 1], [1, 2])
    see(watch, 0, "load", [1, 0])
    assert watch.close()["unsynchronised"] == 2
    watch = Sanitizer([SPAN])
    see(watch, 0, "store", [0, 1], [1, 2])
    watch.epoch += 1
    see(watch, 0, "load", [1, 0])
    assert watch.close()["unsynchronised"] == 0


def test_storing_what_another_lane_loads_needs_a_barrier():
    for waits, found in ((0, 2), (1, 0)):
        watch = Sanitizer([SPAN])
        see(watch, 0, "load", [1, 0, 2])
        watch.epoch += waits
        see(watch, 0, "store", [0, 1, 2], [1, 2, 3])
        assert watch.close()["unsynchronised"] == found


@pytest.mark.parametrize("second, waits, found", [
    (("store", [1, 0], [5, 6]), 0, 2),
    (("store", [1, 0], [5, 6]), 1, 0),
    (("store", [0, 1], [5, 6]), 0, 0),  # each lane its own
    (("store", [1, 0], [2, 1]), 0, 0),  # nothing changes
    (("atomic", [1, 0], None), 0, 2),
    (("atomic", [1, 0], None), 1, 0),
    (("atomic", [0, 1], None), 0, 0),
])  # fmt: skip
def test_writing_what_another_lane_stored_needs_a_barrier(second, waits, found):
    for turn in (1, -1) if second[0] == "atomic" else (1,):
        watch = Sanitizer([SPAN])
        for at_last, access in enumerate([("store", [0, 1], [1, 2]), second][::turn]):
            watch.epoch += waits * at_last
            see(watch, 0, *access)
        assert watch.close()["overwritten"] == found


def test_lanes_that_exchange_different_values_into_one_place_race():
    watch = Sanitizer([SPAN])
    see(watch, 0, "atomic", [3, 3, 4], [1, 2, 3])
    assert watch.close()["races"] == 1


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"])
def test_undefined_memory_is_noticed_and_not_by_nan_alone(name):
    values = undefined((8,), np.dtype(name))
    assert values.dtype == name and len(set(map(str, values))) > 1
