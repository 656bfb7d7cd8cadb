"""python -m rftlab data check | convert: look at a JSONL file, or write it in another format."""
import json
import os
import shutil
from pathlib import Path

from rftlab import data


def arguments(parser) -> None:
    """Add the two commands to an argparse parser."""
    commands = parser.add_subparsers(dest="what", required=True)
    check = commands.add_parser("check", help="what is wrong with a file; exit code 1 when something is")
    check.add_argument("file")
    check.add_argument("--test", help="a held-out file, to look for leaks")
    check.add_argument("--reward", help="file.py:function, called as function(completion, problem), or the name of a task of the course")
    check.add_argument("--model", help="count tokens with this model's chat template")
    check.add_argument("--max-prompt-tokens", type=int)
    check.add_argument("--picture", help="write lengths and openings to this PNG file")
    convert = commands.add_parser("convert", help="write a file in another format")
    convert.add_argument("file")
    convert.add_argument("--to", choices=data.FORMATS, required=True)
    convert.add_argument("--out", required=True)


def main(given) -> int:
    return check(given) if given.what == "check" else convert(given)


def check(given) -> int:
    from rftlab import data_check, models

    policy = models.load_policy(given.model) if given.model else None
    report = data_check.check(data.load(given.file), data.load(given.test) if given.test else None,
                              data_check.verify_from(given.reward) if given.reward else None, policy, given.max_prompt_tokens)
    print(report)
    if given.picture and report.lengths:
        import matplotlib
        matplotlib.use("Agg")
        Path(given.picture).parent.mkdir(parents=True, exist_ok=True)
        report.plot()[0].figure.savefig(given.picture, dpi=150)
        print(f"picture: {given.picture}")
    return int(not report.ok)


def convert(given) -> int:
    examples = data.load(given.file).usable()
    lines = [json.dumps(data.convert({"messages": row.messages, **row.columns}, given.to), ensure_ascii=False) for row in examples.rows]
    _replace(Path(given.out), ("\n".join(lines) + "\n").encode("utf-8"))
    print(f"{len(lines)} rows as {given.to} in {given.out}")
    return 0


def _replace(path, raw) -> None:
    """Write the file as a whole or not at all: --out may name the file that was read, the only copy of somebody's work."""
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe: nothing there to lose, and not to be replaced by a file
        path.write_bytes(raw)
        return
    path = path.resolve()  # so that a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(raw)
        if path.exists():
            shutil.copymode(path, scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
