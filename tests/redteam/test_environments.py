"""The walls hold on machines with fewer defences: ordinary users, containers, kernels without Landlock or without seccomp."""

import pytest
from environments import ENVIRONMENTS, possible, run

from rftlab.kernels import lockdown


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_walls_hold(name):
    if why := possible(name):
        pytest.skip(why)
    found = run(name)
    here = set(lockdown.active_layers()) | ({"uid"} if name == "user" else set())
    assert set(found["layers"]) == ENVIRONMENTS[name].layers & here
    assert [name for name, (score, cap) in found["paid"].items() if score is None or score > cap] == []
    assert len(found["paid"]) >= 38
    assert found["controls"] == [1.0, 0.6]
    assert found["damage"] == [] and found["left over"] == []


def test_too_few_defences_are_refused():
    """Without seccomp and Landlock nothing is run; the message says what is missing and what to do."""
    from rftlab.kernels import KernelGrader

    with pytest.raises(lockdown.LockdownError, match="only these defences work here.*Use Linux"):
        KernelGrader(workers=1, _without=("seccomp", "landlock"))
