"""The rules: what they refuse, with the right line, and what they must not refuse."""
import builtins

import pytest
from hypothesis import given, settings, strategies as st

from rftlab.kernels import policy
from rftlab.kernels.extract import FormatError, extract

HEAD = "import torch\nimport triton\nimport triton.language as tl\n"
KERNEL = "@triton.jit\ndef k(x, n, B: tl.constexpr):\n    i = tl.arange(0, B)\n    tl.store(x + i, tl.load(x + i, mask=i < n), mask=i < n)\n"
ENTRY = "def add(x, y):\n    out = torch.empty_like(x)\n    k[(1,)](out, 4, B=16)\n    return out\n"


def check(code, entry="add"):
    return policy.check(extract(f"```python\n{code}```"), entry)


def with_lines(*lines, top=""):
    body = "".join(f"    {line}\n" for line in lines)
    return HEAD + top + KERNEL + "def add(x, y):\n" + body + "    k[(1,)](x, 4, B=16)\n    return x\n"


def test_an_honest_program_keeps_them():
    assert check(HEAD + KERNEL + ENTRY) == []


@pytest.mark.parametrize("line, reason", [
    ("open('f')", "open is not allowed"),
    ("z = getattr(torch, 'add')", "getattr is not allowed"),
    ("z = [open for open in open('f')]", "open is not allowed"),
    ("f = lambda open: 0; z = open('f')", "open is not allowed"),
    ("np.exp(x)", "np is not defined"),
    ("z = torch.add(x, y)", "torch.add is not allowed"),
    ("z = torch", "torch can only be used as torch.something"),
    ("z = x.__class__", "attribute .__class__"),
    ("z = x.numpy()", "attribute .numpy"),
    ("z = '{0.__class__}'.format(x)", "attribute .format"),
    ("x.shape = 1", "assigns the attribute"),
    ("z = x @ y", "@ is not allowed"),
    ("x @= y", "@ is not allowed"),
    ("z = tl.load(x)", "triton.language.load is not allowed outside kernels"),
    ("z = torch.Tensor([1])", "torch.Tensor is not allowed"),
    ("global k", "global is not allowed"),
    ("import os", "top of the module"),
    ("yield x", "yield is not allowed"),
    ("k[(1,)](x, 4, B=16, ir_override='f')", "ir_override"),
    ("__import__('os')", "__import__"),
    ("k.run(x)", "attribute .run"),
])  # fmt: skip
def test_what_is_refused_and_where(line, reason):
    found = check(with_lines("n = 1", line))
    assert any(text.startswith("line 10: ") and reason in text for text in found), found


@pytest.mark.parametrize("line, reason", [
    ("isinstance(x, tl.tensor)", "isinstance in a kernel"),
    ("x = n is B", "is may only compare with None"),
    ("x = n is None", ""),
    ("x = n is not None", ""),
])  # fmt: skip
def test_a_kernel_cannot_ask_what_its_values_are(line, reason):
    found = check(HEAD + KERNEL.replace("    i =", f"    {line}\n    i =") + ENTRY)
    assert reason in found[0] if reason else found == []


@pytest.mark.parametrize("line, refused", [
    ('if f"{i.shape[0]}" == "16":\n        n = 0', True),
    ('if "%s" % i.numel == "16":\n        n = 0', True),
    ('tl.static_assert(f"{B}" == "16", "no")', True),
    ('tl.static_print(f"{f\'{B}\' == \'16\'}")', True),  # a text inside the message decides what it says
    ('assert f"{B}" == "16"', True),
    ('assert B == 16, f"the block is {B:>5}"', False),
    ('tl.static_assert(B == 16, f"the block is {B}")', False),
    ('tl.device_assert(n > 0, msg="the block is %d" % B)', False),
    ('tl.static_print(f"{B}"); print(f"{B}", n); tl.device_print(f"{B}", n)', False),
    ("n = n % 7", False),
])  # fmt: skip
def test_texts_made_of_values_are_messages_only(line, refused):
    found = check(HEAD + KERNEL.replace("    tl.store", f"    {line}\n    tl.store") + ENTRY)
    assert [text.split(": ")[1][:28] for text in found] == ["a text made of values in a k"] * refused, found


def test_a_print_of_its_own_gets_no_text():
    helper = '@triton.jit\ndef print(s):\n    return s == "16"\n'
    assert "a text made of values" in check(HEAD + helper + KERNEL.replace("    i =", '    print(f"{B}")\n    i =') + ENTRY)[0]


def test_propagate_nan_has_two_members():
    for member, fine in (("ALL", True), ("NONE", True), ("__class__", False), ("ALL.value", True), ("ALL.name", False)):
        found = check(HEAD + KERNEL.replace("    i =", f"    j = tl.PropagateNan.{member}\n    i =") + ENTRY)
        assert (found == []) == fine, found
    assert check(with_lines("n = tl.PropagateNan.ALL")) != []


def test_an_annotation_needs_no_value():
    assert check(HEAD + "nothing: int\n" + KERNEL + ENTRY) == []


def test_an_import_cannot_be_a_variable_too():
    assert check(with_lines("torch = x")) == ["line 8: torch is an import: choose another name for the variable"]


@pytest.mark.parametrize("top, reason", [
    ("import numpy as np\n", "import numpy"),
    ("from torch import matmul\n", "import torch.matmul"),
    ("from os import *\n", "from os import"),
    ("class A:\n    pass\n", "a class"),
    ("k = 1\n", "k is defined twice"),
    ("open = open\n", "open is Python's own"),
    ("f = open\n", "open is not allowed"),
    ("def add(x, y):\n    return x\n", "add is defined twice"),
    ("for i in range(3):\n    pass\n", "for at module level"),
    ("import math as torch\n", "torch is defined twice"),
    ("def f(x=open('g')):\n    return x\n", "open is not allowed"),
    ("def f(x: open('g')):\n    return x\n", "a call in an annotation"),
    ("@open\ndef f(x):\n    return x\n", "decorator"),
])  # fmt: skip
def test_what_is_refused_at_module_level(top, reason):
    found = check(with_lines("n = 1", top=top))
    assert any(reason in text for text in found), found


@pytest.mark.parametrize("line, reason", [
    ("torch.add(x, x)", "kernels use triton.language only"),
    ("tl.core.builtins.exec('1')", "tl.core"),
    ("tl.inline_asm_elementwise('', '', [], tl.int32, True, 1)", "inline_asm"),
    ("x.handle.data", "attribute .handle"),
])  # fmt: skip
def test_what_is_refused_in_a_kernel(line, reason):
    found = check(HEAD + KERNEL.replace("    i =", f"    {line}\n    i =", 1) + ENTRY)
    assert any(reason.replace("tl.core", "triton.language.core") in text for text in found), found


@pytest.mark.parametrize("lines", [
    ["max = 3", "sum = max + 1", "input = x", "open = sum", "id = open"],
    ["def grid(meta):\n        return (triton.cdiv(4, meta['B']),)"],
    ["assert x.shape == y.shape, f'{x.shape}'"],
    ["if x.dim() != 1:\n        raise ValueError('no')"],
    ["with torch.no_grad():\n        n = x.numel()"],
    ["sizes = [s for s in x.shape]", "n, *rest = sizes"],
    ["if isinstance(x, torch.Tensor):\n        x = x.contiguous().view(-1)"],
    ["del y"],
    ["launch = k[(1,)]", "launch(x, 4, B=16)"],
])  # fmt: skip
def test_honest_code_is_not_refused(lines):
    assert check(with_lines(*lines)) == []


@pytest.mark.parametrize("name", sorted(n for n in vars(builtins) if n.isidentifier() and not n.startswith("_") and n not in ("None", "True", "False", "Ellipsis")))
def test_any_builtin_may_name_a_local_variable(name):
    assert check(with_lines(f"{name} = 1", f"{name} += {name}")) == []


def test_what_a_program_must_hold():
    missing = policy.structure(extract("```python\nimport torch\ndef add(x, y):\n    return x\n```"), "add", 2)
    assert missing == ["there is no @triton.jit kernel"]
    assert policy.structure(extract(f"```python\n{HEAD}{KERNEL}{ENTRY}```"), "mul", 2) == ["there is no function mul(...)"]
    assert "must take 3" in policy.structure(extract(f"```python\n{HEAD}{KERNEL}{ENTRY}```"), "add", 3)[0]
    assert "add launches no kernel" in check(HEAD + KERNEL + "def add(x, y):\n    return x\n")
    assert "no kernel stores anything" in check(HEAD + "@triton.jit\ndef k(x):\n    pass\n" + ENTRY)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abk_.()[]{}=:+@,*'\"\n #0lambdefimportx", max_size=120))
def test_no_program_makes_the_rules_raise(text):
    try:
        program = extract(f"```python\n{HEAD}{KERNEL}{text}\n{ENTRY}```")
    except FormatError:
        return
    assert isinstance(policy.check(program, "add"), list)
