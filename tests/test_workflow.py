"""A newcomer with twenty prompts and ten lines of reward goes through notebook 11: trained, evaluated, written, served."""
import importlib.util
import json
import os
import random
import subprocess
import sys

import nbformat
import pytest

from rftlab.notebooks import ROOT

NOTEBOOK = ROOT / "notebooks" / "11_unsloth_workflow.ipynb"
REWARD = '''
def right(completion, problem):
    """1.0 for the right word alone, 0.5 where it stands among others; the other column of the file counts as well."""
    words = completion.strip().lower().split()
    if words == [problem.answer]:
        return 1.0
    return 0.5 if problem.answer in words and len(words) <= problem.info["most_words"] else 0.0
'''
AT_THE_END = """
import json
print(json.dumps({"train": len(task.train()), "test": len(task.test()), "before": before.n, "after": after.n, "steps": len(watch.metrics),
                  "rewards": [m["reward"] for m in watch.metrics], "served": len(served), "streamed": "".join(pieces) == whole,
                  "onnx": graph is not None, "page": page.read_text(), "files": sorted(files), "kinds": len({type(p.prompt) for p, _ in served})}))
"""


def program(mine):
    """The notebook's code cells up to the exercises, with the file and the reward of somebody else."""
    pieces = []
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.source.startswith("## 9. Exercises"):
            break
        if cell.cell_type == "code":
            pieces.append(REWARD if "def right(" in cell.source else cell.source)
    source, here = "\n".join(pieces), 'MINE, HELD_OUT = EXAMPLES / "sums.jsonl", EXAMPLES / "sums-held-out.jsonl"'
    assert source.count(here) == 1 and REWARD in source
    return source.replace(here, f"MINE, HELD_OUT = Path({str(mine)!r}), None") + AT_THE_END


@pytest.mark.slow
def test_files_and_a_reward_of_ones_own_go_through_the_whole_notebook(tmp_path):
    for name in ("trl", "openai", "fastapi"):
        pytest.importorskip(name)
    draw = random.Random(0)
    pairs = [draw.sample(range(10, 99), 2) for _ in range(20)]
    rows = [{"instruction": f"Which is larger, {a} or {b}?", "output": str(max(a, b)), "most_words": 6} for a, b in pairs[:10]]
    rows += [{"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": f"The larger one of {a} and {b}?"},
                           {"role": "assistant", "content": str(max(a, b))}], "most_words": 6} for a, b in pairs[10:]]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run.py").write_text(program(tmp_path / "mine.jsonl"))
    (tmp_path / "here").mkdir()
    ran = subprocess.run([sys.executable, "../run.py"], capture_output=True, text=True, timeout=2400, cwd=tmp_path / "here",
                         env={**os.environ, "RFTLAB_BACKEND": "transformers", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"})
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert (found["train"], found["test"], found["before"], found["after"]) == (16, 4, 4, 4)
    assert found["steps"] == 14 and any(found["rewards"]), "its own reward was paid"
    assert found["served"] == 4 and found["streamed"]
    assert found["files"] == ["GGUF F16", "GGUF Q8_0", "adapters", "merged"]
    assert found["onnx"] == all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
    assert "arger" in found["page"] and "What is the capital of France?" not in found["page"]
