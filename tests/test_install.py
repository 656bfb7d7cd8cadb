"""The set-up says plainly what failed and what to do. The installation itself is what `make test` begins with."""
import ast
import os
import stat
import sys

import pytest

from rftlab import install
from rftlab.install import SetupError


@pytest.fixture
def fake_pip(tmp_path):
    """A virtual environment whose Python prints what it was told to and fails."""
    def make(output, code=1):
        python = tmp_path / "bin" / "python"
        python.parent.mkdir(exist_ok=True)
        (tmp_path / "output").write_text(output)
        python.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/arguments"\nenv > "{tmp_path}/environment"\ncat "{tmp_path}/output"\nexit {code}\n')
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        return str(tmp_path)
    return make


@pytest.mark.parametrize("version", [(3, 10, 9), (3, 14, 0), (2, 7, 18)])
def test_an_unsuitable_python_is_refused_with_the_way_out(version):
    with pytest.raises(SetupError, match=r"(?s)needs a 64-bit Python 3.11 to 3.13; this one is .*PYTHON="):
        install.check_python(version)


def test_suitable_pythons_pass():
    for minor in (11, 12, 13):
        install.check_python((3, minor, 0))
    with pytest.raises(SetupError, match="64-bit"):
        install.check_python((3, 12, 0), is_64_bit=False)


def test_an_old_python_can_read_the_script_far_enough_to_be_refused():
    ast.parse(open(install.__file__).read(), feature_version=(3, 6))


def test_platforms():
    assert install.check_platform("Linux", "x86_64") == ""
    assert "Triton" in install.check_platform("Darwin", "arm64")
    assert "rftlab.notebooks course" in install.check_platform("Windows", "AMD64")
    with pytest.raises(SetupError, match="Intel"):
        install.check_platform("Darwin", "x86_64")


def test_a_full_disk_is_noticed_before_anything_is_fetched():
    install.check_disk(install.DISK_GB + 0.1)
    with pytest.raises(SetupError, match=r"(?s)Only 1.2 GB are free.*make room"):
        install.check_disk(1.2)


@pytest.mark.parametrize("output, advice", [
    ("OSError: [Errno 28] No space left on device", "the disk is full"),
    ("Failed to establish a new connection: [Errno -3] Temporary failure in name resolution", "check the network"),
    ("ERROR: No matching distribution found for torch>=2.10", "another Python"),
    ("NewConnectionError\nERROR: No matching distribution found for torch>=2.10", "check the network"),
    ("[SSL: CERTIFICATE_VERIFY_FAILED]", "PIP_CERT"),
    ("something else", "read the log"),
])
def test_a_failed_installation_is_explained(output, advice, fake_pip):
    venv = fake_pip(output)
    with pytest.raises(SetupError) as error:
        install.pip_install(venv, ["x"], "install.log")
    assert advice in str(error.value) and output.splitlines()[-1] in str(error.value)
    assert os.path.join(venv, "install.log") in str(error.value)


def test_nothing_is_left_outside(fake_pip):
    venv = fake_pip("Collecting a\n", code=0)
    install.pip_install(venv, ["a"], "install.log")
    assert "--no-cache-dir" in open(os.path.join(venv, "arguments")).read()
    assert f"TMPDIR={os.path.join(venv, 'tmp')}\n" in open(os.path.join(venv, "environment")).read()
    assert not os.path.exists(os.path.join(venv, "tmp"))


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("name, wheels", [("Unsloth", install.UNSLOTH), ("Trackio", install.TRACKIO)])
def test_some_are_optional_and_come_without_their_dependencies(name, wheels, code, fake_pip):
    venv = fake_pip("no matching wheel", code)
    remark = install.install_optional(venv, name, wheels, "notebook 11 does without")
    asked = open(os.path.join(venv, "arguments")).read().split()
    assert "--no-deps" in asked and set(wheels) <= set(asked)
    assert (remark == "") == (code == 0)
    assert code == 0 or (f"install-{name.lower()}.log" in remark and "notebook 11" in remark and f"--no-deps {wheels[0]}" in remark)


def test_the_stamp_follows_what_is_installed_and_where(tmp_path, monkeypatch):
    (tmp_path / "rftlab").mkdir()
    for name in ("pyproject.toml", "constraints.txt", "rftlab/install.py"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(install, "ROOT", str(tmp_path))
    first = install.stamp_of("/a/.venv")
    assert install.stamp_of("/a/.venv") == first
    assert install.stamp_of("/b/.venv") != first, "a moved clone has a .venv that points to the old place"
    (tmp_path / "constraints.txt").write_text("torch==2.14.0")
    assert install.stamp_of("/a/.venv") != first


def test_the_second_call_does_nothing(tmp_path, monkeypatch, capsys):
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "rftlab").mkdir()
    (tmp_path / "rftlab" / "install.py").write_text("")
    monkeypatch.setattr(install, "ROOT", str(tmp_path))
    monkeypatch.setattr(install, "create_venv", lambda venv: pytest.fail("it began again"))
    (venv / "rftlab-stamp").write_text(install.stamp_of(str(venv)))
    install.install()
    assert capsys.readouterr().out == ""
    (venv / "rftlab-stamp").write_text("another")
    monkeypatch.setattr(install, "check_disk", lambda free: None)
    with pytest.raises(pytest.fail.Exception, match="it began again"):
        install.install()
    assert not (venv / "rftlab-stamp").exists(), "an installation that was cut off must not look complete"


def test_a_failure_ends_with_a_plain_message_and_a_code(monkeypatch):
    def fail(index):
        raise SetupError("It broke.", "mend it.")
    monkeypatch.setattr(install, "install", fail)
    monkeypatch.setattr(sys, "argv", ["install.py"])
    with pytest.raises(SystemExit) as stop:
        install.main()
    assert stop.value.code == "Set-up stopped. It broke.\nWhat to do: mend it."
