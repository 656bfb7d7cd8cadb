"""Your own examples: recognise their format, say what is wrong with each line, and turn them into problems with a verifier.

Five formats, one JSON object a line, any further keys are columns for the verifier ("answer" is the usual one):

    text         {"text": "### Instruction:\\n2 + 3 =\\n\\n### Response:\\n5"}     without headings, the whole text is the question
    instruction  {"instruction": "Add.", "input": "2 and 3", "output": "5"}        Alpaca; `system` and `history` may stand beside
    sharegpt     {"conversations": [{"from": "human", "value": "2 + 3 ="}, {"from": "gpt", "value": "5"}]}
    chatml       {"messages": [{"role": "user", "content": "2 + 3 ="}, {"role": "assistant", "content": "5"}]}
    prompt       {"prompt": "2 + 3 =", "answer": "5"}                              TRL's; a string or messages, `completion` if any

All become chat messages, which the model's own chat template renders. Reinforcement needs no completion: one that is there
becomes the problem's solution, and its answer where no column "answer" says it. Nothing is dropped: each line becomes a row or a fault.
"""
import codecs
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from rftlab.tasks import Problem

FORMATS = ("text", "instruction", "sharegpt", "chatml", "prompt")
KEYS = {"text": ("text",), "instruction": ("instruction", "input", "output", "system", "history"),
        "sharegpt": ("conversations",), "chatml": ("messages",), "prompt": ("prompt", "completion")}
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
EXAMPLE = '{"prompt": "2 + 3 =", "answer": "5"}'
HEADINGS = {"system": "### System:", "user": "### Instruction:", "assistant": "### Response:"}
_HEADING = re.compile(r"^### (System|Instruction|Response):[ \t]*\n?", re.MULTILINE)
_TOO_LONG = "a whole number of more than the 4300 digits that Python reads", "the number in quotes, as a string"
_ROLE = {"System": "system", "Instruction": "user", "Response": "assistant"}


@dataclass(frozen=True)
class Fault:
    """What is wrong with one line."""

    line: int
    field: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.found}; expected {self.expected}"


class Malformed(ValueError):
    """A row that is in none of the formats, or in one and broken; `field`, `found` and `expected` say how."""

    def __init__(self, field, found, expected):
        super().__init__(f"{field}: {found}; expected {expected}")
        self.field, self.found, self.expected = field, found, expected


@dataclass(frozen=True)
class Row:
    """One good line. prompt: the messages up to the last user turn; completion: the text of the turn after it, or None."""

    line: int
    format: str
    messages: list
    columns: dict

    @property
    def prompt(self) -> list:
        return self.messages[:-1] if self.messages[-1]["role"] == "assistant" else self.messages

    @property
    def completion(self) -> str | None:
        return self.messages[-1]["content"] if self.messages[-1]["role"] == "assistant" else None

    @property
    def problem(self) -> Problem:
        """As the tasks of the course have it: `prompt` is a string where there is but one turn, else the messages."""
        answer = self.columns.get("answer")
        prompt = self.prompt[0]["content"] if len(self.prompt) == 1 else self.prompt
        return Problem(prompt, (self.completion or "").strip() if answer is None else str(answer), self.completion or "",
                       {k: v for k, v in self.columns.items() if k != "answer"})


@dataclass
class Examples:
    """What a file holds: `rows` that can be used and `faults` that cannot; every line that is not blank is one of them."""

    source: str
    rows: list = field(default_factory=list)
    faults: list = field(default_factory=list)

    @property
    def problems(self) -> list:
        return [row.problem for row in self.rows]

    def usable(self) -> "Examples":
        """Itself, when no line is at fault; else ValueError naming the first three. Training on half a file is a choice: `.rows`.

        Without a single line it is a ValueError too."""
        if not self.faults and not self.rows:
            raise ValueError(f"{self.source} holds no example; expected one JSON object a line, such as {EXAMPLE}")
        if self.faults:
            shown = "\n  ".join(map(str, self.faults[:3]))
            raise ValueError(f"{len(self.faults)} of {len(self.faults) + len(self.rows)} lines of {self.source} cannot be used:\n"
                             f"  {shown}\nMend them, or take only the good ones with .rows")
        return self


def load(path) -> Examples:
    """Read a JSONL file. Raises FileNotFoundError, or IsADirectoryError; whatever is wrong inside becomes a fault."""
    path = Path(path)
    if not path.is_file():
        kind, what = (IsADirectoryError, "is a folder") if path.is_dir() else (FileNotFoundError, f"does not exist (looked for in {Path.cwd()})")
        raise kind(f"{path} {what}; expected a file with one JSON object a line, such as {EXAMPLE}")
    raw = path.read_bytes()
    examples = Examples(path.name)
    if strange := _no_text(raw):
        examples.faults.append(Fault(1, "the file", strange, "text in UTF-8, one JSON object a line"))
        return examples
    for number, line in enumerate(raw.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:  # each line by itself, so that one in another encoding costs no other
            if (text := line.decode("utf-8")).strip():
                _take(examples, number, json.loads(text))
        except (ValueError, RecursionError) as error:
            examples.faults.append(_unread(number, line, error))
    return examples


def _unread(number, line, error) -> Fault:
    """Why a line could not be read, by the exception."""
    if isinstance(error, UnicodeDecodeError):
        return Fault(number, "the line", f"no UTF-8 at byte {error.start + 1}", "text in UTF-8: save the file as UTF-8")
    if isinstance(error, json.JSONDecodeError):
        return Fault(number, f"character {error.pos + 1}", f"no JSON ({error.msg})", _instead(number, line.decode("utf-8")))
    if isinstance(error, RecursionError):
        return Fault(number, "the line", "no JSON (nested too deep)", "one JSON object a line")
    return Fault(number, "the line", *_TOO_LONG)


def _no_text(raw) -> str:
    """What a file is that is no text in UTF-8, "" for one that may be."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "UTF-16, as Windows programs write it"
    known = {b"PK\x03\x04": "a zip archive (an .xlsx file is one)", b"\x1f\x8b": "compressed by gzip", b"PAR1": "a Parquet file"}
    return next((kind for start, kind in known.items() if raw.startswith(start)), "")


def _instead(number, line) -> str:
    """What was expected in the place of a line that is no JSON."""
    if number == 1 and line.strip() in "[{":
        return "one JSON object a line (JSONL), not one document over several lines"
    if number == 1 and "{" not in line and any(key in re.split("[,;\t]", line.strip()) for keys in KEYS.values() for key in keys):
        return "one JSON object a line, not a table; csv.DictReader reads one, json.dumps(row) writes each line"
    return "one JSON object a line"


def parse(rows, source="rows") -> Examples:
    """The same for dicts that are already in memory, a `datasets.Dataset` for example; the first one is line 1."""
    examples = Examples(source)
    for number, row in enumerate(rows, 1):
        _take(examples, number, {k: v for k, v in row.items() if v is not None} if isinstance(row, dict) else row)
    return examples


def _take(examples, number, row) -> None:
    try:
        kind = recognise(row)
        columns = {k: v for k, v in row.items() if k not in KEYS[kind]}
        for name, value in columns.items():
            _writable(name, value)
        examples.rows.append(Row(number, kind, messages(row, kind), columns))
    except Malformed as wrong:
        examples.faults.append(Fault(number, wrong.field, wrong.found, wrong.expected))


def recognise(row) -> str:
    """Which of FORMATS a row is in. Raises Malformed for none, or for more than one."""
    if not isinstance(row, dict):
        raise Malformed("the line", f"a {type(row).__name__}", 'an object, {"prompt": ..., "answer": ...} for example'
                        + (", each on a line of its own" if isinstance(row, list) and row and isinstance(row[0], dict) else ""))
    for key in row:
        _string("keys", str(key))
    found = [name for name in FORMATS if KEYS[name][0] in row]
    if len(found) != 1:
        what = " and ".join(found) if found else "only " + (", ".join(map(str, row)) or "nothing")
        raise Malformed("keys", what, "exactly one of " + ", ".join(KEYS[name][0] for name in FORMATS))
    return found[0]


def messages(row, kind=None) -> list:
    """The row as chat messages, [{"role": "system" | "user" | "assistant", "content": text}, ...]. Raises Malformed."""
    kind = kind or recognise(row)
    value = row[KEYS[kind][0]]
    if kind == "text":
        said = _from_text(_string("text", value))
    elif kind == "instruction":
        said = _from_instruction(row)
    elif kind == "prompt":
        said = [("prompt", "user", value)] if isinstance(value, str) else _turns("prompt", value, "role", "content")
        if row.get("completion") is not None:
            done = row["completion"]
            said += [("completion", "assistant", done)] if isinstance(done, str) else _turns("completion", done, "role", "content")
    else:
        said = _turns(KEYS[kind][0], value, *(("from", "value") if kind == "sharegpt" else ("role", "content")))
    return _checked(said)


def convert(row, to, kind=None) -> dict:
    """The row in another format, its other columns kept. Raises Malformed, also where that format cannot say it."""
    kind = kind or recognise(row)
    said, rest = messages(row, kind), {k: v for k, v in row.items() if k not in KEYS[kind]}
    if to not in FORMATS:
        raise ValueError(f"to={to!r}; expected one of {', '.join(FORMATS)}")
    if set(KEYS[to]) & set(rest):
        raise Malformed(", ".join(set(KEYS[to]) & set(rest)), f"a column of that name, which {to} uses itself", "another name for it")
    return {**_write(said, to), **rest}


def _write(said, to) -> dict:
    if to == "chatml":
        return {"messages": said}
    if to == "sharegpt":
        names = {"user": "human", "assistant": "gpt", "system": "system"}
        return {"conversations": [{"from": names[m["role"]], "value": m["content"]} for m in said]}
    if to == "prompt":
        last = said[-1]["role"] == "assistant"
        prompt = said[:-1] if last else said
        return {"prompt": prompt[0]["content"] if len(prompt) == 1 else prompt, **({"completion": said[-1]["content"]} if last else {})}
    if to == "text":
        for m in said:
            if _HEADING.search(m["content"]):
                raise Malformed("text", "a turn that itself contains a heading", "turns without `### Instruction:` and the like")
        return {"text": "\n\n".join(f"{HEADINGS[m['role']]}\n{m['content']}" for m in said)}
    system, turns = (said[0]["content"], said[1:]) if said[0]["role"] == "system" else (None, said)
    pairs = [(turns[i]["content"], turns[i + 1]["content"] if i + 1 < len(turns) else "") for i in range(0, len(turns), 2)]
    row = {"instruction": pairs[-1][0], "input": "", "output": pairs[-1][1]}
    return {**row, **({"system": system} if system else {}), **({"history": [list(p) for p in pairs[:-1]]} if pairs[1:] else {})}


def _from_text(text) -> list:
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # as Windows ends lines: the headings below are found by "\n"
    marks = list(_HEADING.finditer(text))
    if not marks:
        return [("text", "user", text)]
    if text[:marks[0].start()].strip():
        raise Malformed("text", f"words before the first heading ({text.strip()[:30]!r})", "the text to begin with a heading, or to have none")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    said = [(f"text, {m.group().strip()}", _ROLE[m[1]], text[m.end():end].strip("\n")) for m, end in zip(marks, ends)]
    return said[:-1] if len(said) > 1 and said[-1][1] == "assistant" and not said[-1][2].strip() else said


def _from_instruction(row) -> list:
    given = {k: row[k] for k in KEYS["instruction"] if row.get(k) is not None and row[k] != ""}  # a 0 is no absence but a mistake
    said = [("system", "system", given["system"])] if "system" in given else []
    history = given.get("history", [])
    if not isinstance(history, (list, tuple)):
        raise Malformed("history", f"a {type(history).__name__}", "a list of pairs [question, answer]")
    for pair in history:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise Malformed("history", repr(pair)[:40], "pairs [question, answer]")
        said += [("history", "user", pair[0]), ("history", "assistant", pair[1])]
    question, more = _string("instruction", row["instruction"]), _string("input", given.get("input", ""))
    said.append(("instruction", "user", f"{question}\n\n{more}" if more.strip() else question))
    return said + ([("output", "assistant", given["output"])] if "output" in given else [])


def _turns(name, value, who, what) -> list:
    if not isinstance(value, list) or not value:
        raise Malformed(name, "an empty list" if value == [] else f"a {type(value).__name__}", f'a list of {{"{who}": ..., "{what}": ...}}')
    said = []
    for i, turn in enumerate(value):
        if not isinstance(turn, dict) or who not in turn or what not in turn:
            raise Malformed(f"{name}[{i}]", repr(turn)[:40], f'the keys "{who}" and "{what}"')
        role = turn[who] if who == "role" else SHAREGPT.get(str(turn[who]), turn[who])
        said.append((f"{name}[{i}]", role, turn[what]))
    return said


def _checked(said) -> list:
    """Messages, after a look at roles, order and emptiness."""
    for i, (name, role, content) in enumerate(said):
        if role not in ("system", "user", "assistant"):
            raise Malformed(name, f"the role {role!r}", "system, user or assistant (ShareGPT: system, human, gpt)")
        if not _string(name, content).strip():
            raise Malformed(name, "nothing but blanks", "some text")
        before = said[i - 1][1] if i else None
        allowed = {None: ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user",)}[before]
        if role not in allowed:
            raise Malformed(name, f"a turn of {role} " + (f"after one of {before}" if before else "at the start"), " or ".join(allowed))
    if said[-1][1] == "system":
        raise Malformed(said[-1][0], "no question", "a turn of the user")
    return [{"role": role, "content": content} for _, role, content in said]


def _string(name, value) -> str:
    if not isinstance(value, str):
        raise Malformed(name, f"a {type(value).__name__}", "a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can say a lone surrogate, but no tokenizer takes it and no file holds it
        raise Malformed(name, f"half a character, \\u{ord(value[error.start]):04x}", "both halves of it (a surrogate pair), or neither") from None
    return value


def _writable(name, value) -> None:
    """Raise Malformed for a column that could not be written again: half a character or an endless number, however deep inside."""
    try:
        _string(name, json.dumps(value, ensure_ascii=False, default=str, skipkeys=True))
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, Malformed) else Malformed(name, *_TOO_LONG) from None
