"""Execute the code cells of a notebook in one namespace, in this process."""
import contextlib
import io

import nbformat


def run_cells(path, wanted=lambda cell: True, namespace=None):
    """Run the cells that `wanted` accepts in a copy of `namespace`; returns (namespace, what they printed)."""
    namespace, printed = dict(namespace or {}), io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and wanted(cell):
                exec(compile(cell.source, f"{path.name}:{cell.id}", "exec"), namespace)
    return namespace, printed.getvalue()
