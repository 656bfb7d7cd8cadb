"""Does a notebook or script pass keywords that the installed TRL, PEFT, transformers, datasets and Unsloth know?

    python -m rftlab.keywords my_notebook.ipynb my_script.py        # this course's own files where none is named
    python -m rftlab.keywords --packages build/newest               # against other versions, installed in a folder

Tutorials die of renamed keywords more than of anything else. This reads the calls and the signatures, and runs neither. A call
is found where its name leads back to an import in the same file: `GRPOConfig(...)`, `trl.GRPOConfig(...)`, a method of what
such a call returned, `**common` where `common` is a dictionary written out in the file.
"""
import argparse
import ast
import difflib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from rftlab.signatures import Keywords, keywords
from rftlab.sources import Sources

LIBRARIES = ("trl", "unsloth", "peft", "transformers", "datasets", "accelerate", "trackio")
# What a loader returns, for the methods that are called on it.
MODEL, TOKENIZER = "transformers.PreTrainedModel", "transformers.PreTrainedTokenizerBase"
RETURNS = {"transformers.AutoModelForCausalLM.from_pretrained": MODEL, "transformers.AutoTokenizer.from_pretrained": TOKENIZER,
           "unsloth.FastLanguageModel.from_pretrained": (MODEL, TOKENIZER), "unsloth.FastLanguageModel.get_peft_model": MODEL,
           "peft.get_peft_model": "peft.PeftModel", "peft.PeftModel.from_pretrained": "peft.PeftModel",
           "datasets.Dataset.from_list": "datasets.Dataset", "datasets.Dataset.from_dict": "datasets.Dataset",
           "datasets.load_dataset": "datasets.Dataset", "datasets.load_from_disk": "datasets.Dataset"}
# Where a `**kwargs` goes that the source hides: the keywords of these count too, and no others.
PASSED_ON = {
    "transformers.AutoModelForCausalLM.from_pretrained": (f"{MODEL}.from_pretrained",
                                                          "transformers.models.auto.auto_factory._BaseAutoModelClass.from_pretrained"),
    "transformers.AutoTokenizer.from_pretrained": (f"{TOKENIZER}.from_pretrained", TOKENIZER),
    "transformers.PreTrainedTokenizerFast": (TOKENIZER,),
    f"{MODEL}.generate": ("transformers.GenerationMixin.generate", "transformers.GenerationConfig"),
    "unsloth.models.loader.FastLanguageModel.from_pretrained": (),
    "unsloth.models.loader.FastLanguageModel.get_peft_model": (),
}
# Keywords that no signature names: generate hands these to the model, and a tokenizer keeps a list of its tokens' names.
SPECIAL = {f"{name}_token" for name in ("bos", "eos", "pad", "unk", "sep", "cls", "mask")}
BESIDES = {f"{MODEL}.generate": {"attention_mask", "input_ids", "position_ids"},
           "transformers.PreTrainedTokenizerFast": SPECIAL, "transformers.AutoTokenizer.from_pretrained": SPECIAL}
# Unsloth's front door shows another class on a Mac; the one for GPUs has the names that its back end for CPUs takes as well.
UNSLOTH = ("unsloth.Fast", "unsloth.models.loader.Fast")
METHODS = {f"{MODEL}.{name}": f"unsloth.save.unsloth_{name}" for name in ("save_pretrained_merged", "save_pretrained_gguf")}


@dataclass(frozen=True)
class Call:
    where: str
    target: str                # "trl.GRPOConfig", "datasets.Dataset.map"
    keywords: tuple[str, ...]
    hidden: bool = False       # a `**something` that is not written out in the file
    method: bool = False       # of an object; such a method may come from elsewhere (torch, an adapter)


def code_of(path: Path) -> list[tuple[str, str]]:
    """(where, Python source) of a script, or of each code cell of a notebook; IPython's magics become calls."""
    if path.suffix != ".ipynb":
        return [(str(path), path.read_text(encoding="utf-8"))]
    from IPython.core.inputtransformer2 import TransformerManager

    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    return [(f"{path}, code cell {number}", TransformerManager().transform_cell("".join(cell["source"])))
            for number, cell in enumerate(cells, 1)]


class Names:
    """What the names of one file stand for: what was imported, what a call returned, and dictionaries that are written out."""
    def __init__(self, trees):
        self.imported, self.values, self.dictionaries = {}, {}, {}
        nodes = [node for tree in trees for node in ast.walk(tree)]
        for node in nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imported[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                self.imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        for node in (node for node in nodes if isinstance(node, ast.Assign)):
            self._assign(node.targets[0], node.value)

    def _assign(self, target, value):
        written = self.written(value)
        if isinstance(target, ast.Name) and written is not None:
            self.dictionaries.setdefault(target.id, set()).update(written)
        if not isinstance(value, ast.Call):
            return
        called = self.meant(value.func)
        if isinstance(value.func, ast.Attribute) and value.func.attr in ("importorskip", "import_module") and value.args:
            if isinstance(target, ast.Name) and isinstance(value.args[0], ast.Constant):
                self.imported[target.id] = value.args[0].value
        elif called:
            last = called.rpartition(".")[2]
            returned = RETURNS.get(called) or (called if last[:1].isupper() else None)
            if isinstance(target, ast.Tuple) and isinstance(returned, tuple):
                self.values |= {one.id: kind for one, kind in zip(target.elts, returned) if isinstance(one, ast.Name)}
            elif isinstance(target, ast.Name) and isinstance(returned, str):
                self.values[target.id] = returned

    def meant(self, node) -> str | None:
        """The dotted name of a function or class of the libraries, None for anything else."""
        if isinstance(node, ast.Name):
            found = self.values.get(node.id) or self.imported.get(node.id)
            return found if found and found.split(".")[0] in LIBRARIES else None
        if isinstance(node, ast.Attribute):
            owner = self.meant(node.value)
            return f"{owner}.{node.attr}" if owner else None
        if isinstance(node, ast.Call):
            called = self.meant(node.func)
            returned = RETURNS.get(called) or (called if called and called.rpartition(".")[2][:1].isupper() else None)
            return returned if isinstance(returned, str) else None
        return None

    def is_object(self, node) -> bool:
        owner = node.value if isinstance(node, ast.Attribute) else None
        return isinstance(owner, ast.Call) or isinstance(owner, ast.Name) and owner.id in self.values

    def written(self, node) -> set | None:
        """The keys of a dictionary that is written out: {..}, dict(..), a | b, or a name of such. None for anything else."""
        if isinstance(node, ast.Dict):
            parts = [self.written(value) if key is None else {key.value} if isinstance(key, ast.Constant) else None
                     for key, value in zip(node.keys, node.values)]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            parts = [self.written(node.left), self.written(node.right)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            parts = [self.written(one) for one in node.args]
            parts += [{one.arg} if one.arg else self.written(one.value) for one in node.keywords]
        elif isinstance(node, ast.Name) and node.id in self.dictionaries:
            parts = [self.dictionaries[node.id]]
        else:
            return None
        return None if None in parts else set().union(*parts)


def calls(path: Path) -> list[Call]:
    """Every call of the libraries in a script or notebook that passes something by name."""
    code = [(where, ast.parse(source)) for where, source in code_of(Path(path))]
    names, found = Names([tree for _, tree in code]), []
    for where, tree in code:
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.keywords):
            target = names.meant(node.func)
            if target and not (isinstance(node.func, ast.Name) and node.func.id in names.values):  # a model that is called
                spread = [names.written(one.value) for one in node.keywords if one.arg is None]
                passed = {one.arg for one in node.keywords if one.arg} | set().union(*(one for one in spread if one))
                place = f"{where}:{node.lineno}" if str(path).endswith(".py") else where
                found.append(Call(place, target, tuple(sorted(passed)), None in spread, names.is_object(node.func)))
    return found


def taken_by(target: str, sources: Sources) -> Keywords:
    """The keywords that `target` takes, with what PASSED_ON and BESIDES say about it. Raises LookupError when it is gone."""
    target = METHODS.get(target, target).replace(*UNSLOTH)
    if target not in PASSED_ON:
        return keywords(sources, target)
    found = BESIDES.get(target, set()) | (set() if target.endswith(".generate") else keywords(sources, target).names)
    return Keywords(frozenset(found.union(*(keywords(sources, one).names for one in PASSED_ON[target]))))


def wrong(found: list[Call], sources: Sources) -> list[str]:
    """One sentence for each keyword, and each name, that the packages in `sources` do not have."""
    sentences = []
    for call in found:
        package = call.target.split(".")[0]
        try:
            known = taken_by(call.target, sources)
        except LookupError as error:
            sentences += [] if call.method else [f"{call.where}: {error}"]
            continue
        for keyword in call.keywords:
            if keyword not in known.names and not known.open:
                near = difflib.get_close_matches(keyword, known.names, n=2, cutoff=0.5)
                hint = f"; it has {' and '.join(near)}" if near else ""
                sentences.append(f"{call.where}: {call.target} of this {package} takes no {keyword!r}{hint}")
    return sentences


def course_files() -> list[Path]:
    """All notebooks and all code of this course as far as they are here, tests too (but for exploits, some of which do not parse)."""
    from rftlab.notebooks import ROOT

    return [path for folder, ending in (("notebooks", "*.ipynb"), ("rftlab", "*.py"), ("tests", "*.py"))
            for path in sorted((ROOT / folder).rglob(ending)) if not {".ipynb_checkpoints", "redteam"} & set(path.parts)]


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m rftlab.keywords", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="notebooks and scripts; those of the course where none is named")
    parser.add_argument("--packages", action="append", help="a folder with the packages to read, in front of the installed ones")
    given = parser.parse_args(arguments)
    sources = Sources([*(given.packages or ()), *sys.path])
    found = [call for path in given.files or course_files() for call in calls(path)]
    absent = sorted({call.target.split(".")[0] for call in found if not sources.has(call.target.split(".")[0])})
    sentences = wrong([call for call in found if call.target.split(".")[0] not in absent], sources)
    for line in sentences + [f"{name} is not installed: its calls were not looked at" for name in absent]:
        print(line)
    print(f"{len(found)} calls, {sum(len(call.keywords) for call in found)} keywords, {len(sentences)} of them wrong")
    return int(bool(sentences))


if __name__ == "__main__":
    sys.exit(main())
