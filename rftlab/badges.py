"""Badges that open the notebooks on Colab and Kaggle, and the course's address in their set-up cells, from one setting.

    make badges REPO=owner/name          # a fork names itself; REF=v1 names a branch or tag, main otherwise
    make badges REPO=none                # and they are gone again
    make badges                          # bring new notebooks in step with the setting

The setting is data/course.toml. Nothing is written for a notebook that does not exist, and no badge while the setting is empty.
"""
import argparse
import re
import sys
from pathlib import Path

from rftlab.setup_cell import Home, home, setting, setup_cell

COLAB = ("https://colab.research.google.com/assets/colab-badge.svg", "https://colab.research.google.com/github/{home}")
KAGGLE = ("https://kaggle.com/static/images/open-in-kaggle.svg", "https://www.kaggle.com/notebooks/welcome?src=https://github.com/{home}")
BADGE = re.compile(r"\s*\[!\[Open in (?:Colab|Kaggle)\]\([^)]*\)\]\([^)]*\)")
ROW = re.compile(r"(\| \[[^\]]*\]\(notebooks/([\w.-]+\.ipynb)\))")
PARAGRAPH = re.compile(r"(<!-- hosted -->\n).*?(\n<!-- /hosted -->)", re.DOTALL)
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/[A-Za-z0-9._-]+")
SETUP_MARK = "# Set-up: run me first."


def badges(where: Home, notebook: str) -> str:
    """The two badges of a notebook in Markdown, "" while the course has no home."""
    if not where.repository:
        return ""
    path = f"{where.repository}/blob/{where.ref}/notebooks/{notebook}"
    return " ".join(f"[![Open in {name}]({image})]({link.format(home=path)})" for name, (image, link) in
                    (("Colab", COLAB), ("Kaggle", KAGGLE)))


def hosted(where: Home) -> str:
    """The paragraph of the README on Colab and Kaggle."""
    if where.repository:
        first = "On Colab and Kaggle: click a badge below. The set-up cell of each notebook installs the package from this repository"
    else:
        first = ("On Colab, run `%env RFTLAB_REPO=<address of this repository>` in a cell before the set-up cell, which then installs "
                 "the package;\nor upload its wheel (`pip wheel --no-deps .`) beside the notebook. "
                 "`make badges REPO=owner/name` puts badges here and the address into the notebooks")
    return (f"{first}.\nOn Kaggle without internet: `make kaggle-bundle` makes a folder of wheels and notebooks; upload it as a data set and add "
            "it as an input.")


def in_readme(text: str, where: Home) -> str:
    """The README with badges in the table of notebooks, and the paragraph between the marks `hosted`."""
    text = BADGE.sub("", text)
    if where.repository:
        text = ROW.sub(lambda row: f"{row.group(1)} {badges(where, row.group(2))}", text)
    return PARAGRAPH.sub(lambda found: found.group(1) + hosted(where) + found.group(2), text)


def in_notebook(notebook, name: str, where: Home) -> bool:
    """Bring title and set-up cell of a notebook in step, in place; a name of "" gets no badge. True when something changed."""
    before = [cell.source for cell in notebook.cells]
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and cell.source.startswith(SETUP_MARK):
            cell.source = setup_cell(where.address)
        elif number == 0 and cell.cell_type == "markdown":
            title = BADGE.sub("", cell.source).rstrip()
            cell.source = f"{title}\n\n{badges(where, name)}" if name and where.repository else title
    return before != [cell.source for cell in notebook.cells]


def apply(root: Path, write: bool = True) -> list[Path]:
    """Bring the README and all notebooks of a clone in step with its setting; the files that were not. Outputs are not touched."""
    import nbformat

    where, changed = home(root), []
    readme = root / "README.md"
    text = in_readme(readme.read_text(encoding="utf-8"), where)
    if text != readme.read_text(encoding="utf-8"):
        changed.append(readme)
        if write:
            readme.write_text(text, encoding="utf-8")
    for path in sorted((root / "notebooks").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts:
            continue
        notebook = nbformat.read(path, as_version=4)
        if in_notebook(notebook, path.name if path.parent.name == "notebooks" else "", where):
            changed.append(path)
            if write:
                nbformat.write(notebook, path)
    return changed


def save(root: Path, where: Home) -> None:
    """Write the setting. Raises ValueError for what is no owner/name, or no branch or tag."""
    if where.repository and not NAME.fullmatch(where.repository):
        raise ValueError(f"{where.repository!r} is not owner/name, such as me/course; `none` removes the badges")
    if not re.fullmatch(r"[\w./-]+", where.ref):
        raise ValueError(f"{where.ref!r} is no branch or tag")
    path = setting(root)
    comment = path.read_text(encoding="utf-8").splitlines()[0]
    path.write_text(f'{comment}\nrepository = "{where.repository}"\nref = "{where.ref}"\n', encoding="utf-8")


def main(arguments=None) -> int:
    from rftlab.notebooks import ROOT

    parser = argparse.ArgumentParser(prog="python -m rftlab.badges", description=__doc__.splitlines()[0])
    parser.add_argument("repository", nargs="?", default="", help="owner/name on GitHub, or none; the setting as it is where left out")
    parser.add_argument("--ref", default="main", help="branch or tag")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        if given.repository:
            save(given.root, Home("" if given.repository == "none" else given.repository, given.ref))
    except ValueError as error:
        sys.exit(str(error))
    changed = apply(given.root)
    print(f"{home(given.root).repository or 'no repository'}: {len(changed)} files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
