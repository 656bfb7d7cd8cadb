"""The walls hold on machines with fewer defences: ordinary users, containers, kernels without Landlock or without seccomp."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from environments import ENVIRONMENTS, WALLS, possible, run

from rftlab.kernels import KernelGrader, lockdown


@pytest.fixture(scope="module")
def found():
    """What came out in each environment that can be imitated here; two at a time."""
    names = [name for name in ENVIRONMENTS if not possible(name)]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(run, names)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_walls_hold(name, found):
    if name not in found:
        pytest.skip(possible(name))
    result, here = found[name], set(lockdown.active_layers())
    assert set(result["layers"]) == ENVIRONMENTS[name].layers & here
    assert [attack for attack, (score, cap) in result["paid"].items() if score is None or score > cap] == []
    assert [attack for attack, (score, _) in result["paid"].items() if not score] == [], "these were never run"
    assert len(result["paid"]) >= len(WALLS) - 2
    assert result["controls"] == [1.0, 0.6]
    assert result["damage"] == [] and result["left over"] == []


def test_too_few_defences_are_refused():
    """Without seccomp and Landlock nothing is run; the message says what is missing and what to do."""
    with pytest.raises(lockdown.LockdownError, match="only these defences work here.*Use Linux"):
        KernelGrader(workers=1, _without=("seccomp", "landlock"))
