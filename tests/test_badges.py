"""Badges and the address in the set-up cells: from one setting, none until it is set, and gone again without a trace."""
import re
import shutil

import nbformat
import pytest

from rftlab import badges
from rftlab.notebooks import ROOT
from rftlab.setup_cell import SETUP_CELL, Home, home, setup_cell

MINE = Home("me/my-course", "v1.2")


@pytest.fixture
def clone(tmp_path):
    """What badges touch, of this clone: README, setting and three notebooks, one of them a solution."""
    for name in ("README.md", "data/course.toml", "notebooks/01_rl_basics.ipynb", "notebooks/A1_deck_errata.ipynb",
                 "notebooks/solutions/01_rl_basics.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_this_clone_is_in_step_with_its_setting():
    assert badges.apply(ROOT, write=False) == [], "run `make badges`"
    assert SETUP_CELL == setup_cell(home().address)
    if not home().repository:
        for path in [ROOT / "README.md", *(ROOT / "notebooks").rglob("*.ipynb")]:
            assert not badges.BADGE.search(path.read_text(encoding="utf-8")), path


def test_on_and_off_again_leaves_every_byte(clone, capsys):
    before = contents(clone)
    assert badges.main(["me/my-course", "--ref", "v1.2", "--root", str(clone)]) == 0
    on = contents(clone)
    assert {path.name for path in before if on[path] != before[path]} == {path.name for path in before}
    assert badges.apply(clone) == [], "twice is as once"
    badges.main(["--root", str(clone)])
    assert contents(clone) == on, "without a name the setting stays"
    badges.main(["other/course", "--root", str(clone)])
    assert not any(b"me/my-course" in content for content in contents(clone).values())
    badges.main(["none", "--root", str(clone)])
    assert contents(clone) == before
    assert "me/my-course: 4 files changed" in capsys.readouterr().out


def test_every_badge_leads_to_a_notebook_that_is_there(clone):
    badges.save(clone, MINE)
    badges.apply(clone)
    start = "https://colab.research.google.com/github/me/my-course/blob/v1.2/"
    for name in ("01_rl_basics", "A1_deck_errata"):
        title = nbformat.read(clone / "notebooks" / f"{name}.ipynb", as_version=4).cells[0].source
        assert f"({start}notebooks/{name}.ipynb)" in title and "www.kaggle.com" in title and title.startswith("# ")
    readme = (clone / "README.md").read_text()
    linked = re.findall(re.escape(start) + r"([^)]*)", readme)
    listed = re.findall(r"^\| \[[^\]]*\]\((notebooks/[^)]*)\)", readme, re.MULTILINE)
    assert linked == listed and len(listed) >= 7
    assert all((ROOT / path).is_file() for path in linked)
    assert "click a badge" in readme


def test_the_address_is_in_the_set_up_cells_of_solutions_too_and_outputs_stay(clone):
    paths = sorted(clone.rglob("*.ipynb"))
    before = {path: nbformat.read(path, as_version=4) for path in paths}
    badges.save(clone, MINE)
    badges.apply(clone)
    for path in paths:
        after = nbformat.read(path, as_version=4)
        assert 'ADDRESS = "https://github.com/me/my-course@v1.2"' in "".join(cell.source for cell in after.cells)
        assert [cell.get("outputs") for cell in after.cells] == [cell.get("outputs") for cell in before[path].cells]
    assert "badge" not in nbformat.read(clone / "notebooks/solutions/01_rl_basics.ipynb", as_version=4).cells[0].source


@pytest.mark.parametrize("name", ["course", "me/", "me/a/b", "https://github.com/me/course", "me/course)"])
def test_what_is_no_repository_is_refused(clone, name):
    before = contents(clone)
    with pytest.raises(SystemExit, match="owner/name"):
        badges.main([name, "--root", str(clone)])
    with pytest.raises(SystemExit, match="branch or tag"):
        badges.main(["me/course", "--ref", "a b", "--root", str(clone)])
    assert contents(clone) == before
