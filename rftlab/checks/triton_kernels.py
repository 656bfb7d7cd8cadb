"""Checks for notebook 08: can the reader write a kernel that is right at every size, touches its own memory only, and compiles?

Each function takes the reader's `@triton.jit` kernel and launches it in the interpreter, between fences of NaN, while every
access is watched; a kernel that gets everything right is compiled at the end. See rftlab.checks for what is printed and raised.
"""

import torch

from rftlab.checks import exercise, expect_close

FENCE = 1 << 16  # elements of NaN on either side of each tensor: a wrong address lands there and not in Python's memory


@exercise
def relu_add(kernel) -> None:
    """Puzzle 1: `kernel[(cdiv(n, BLOCK),)](x_ptr, y_ptr, out_ptr, n, BLOCK)`; out = relu(x + y), all of length n."""
    for n, block in ((10, 4), (3, 8), (16, 8)):
        x, y = _numbers(n, seed=n), _numbers(n, seed=n + 1)
        case = f"n = {n}, BLOCK = {block}"
        out = _launch(kernel, (-(-n // block),), (x, y), (n,), n, case=case, BLOCK=block)
        expect_close(out, (x + y).relu(), case=case, atol=1e-5, hint="add first, then tl.maximum(..., 0).",
                     slips=((x + y, "relu is missing: negative sums become 0."),
                            (x.relu() + y.relu(), "add first, then relu: it is relu of the sum."),
                            ((x - y).relu(), "this subtracts.")))
    _compiles(kernel, x_ptr="*fp32", y_ptr="*fp32", out_ptr="*fp32", n="i32", BLOCK=128)


@exercise
def outer(kernel) -> None:
    """Puzzle 2: `kernel[(cdiv(M, BLOCK), cdiv(N, BLOCK))](x_ptr, y_ptr, out_ptr, M, N, BLOCK)`; out[i, j] = x[i] y[j]."""
    for m, n in ((2, 3), (5, 7), (9, 1)):
        x, y = _numbers(m, seed=m), _numbers(n, seed=n + 9)
        case = f"M = {m}, N = {n}, BLOCK = 4"
        out = _launch(kernel, (-(-m // 4), -(-n // 4)), (x, y), (m, n), m, n, case=case, BLOCK=4)
        expect_close(out, x[:, None] * y, case=case, atol=1e-5,
                     hint="row i of out begins at out_ptr + i * N; rows come from program_id(0), columns from program_id(1).",
                     slips=((x[:, None] + y, "the product, not the sum."),))
    _compiles(kernel, x_ptr="*fp32", y_ptr="*fp32", out_ptr="*fp32", M="i32", N="i32", BLOCK=16)


def _softmax_cases():
    """Rows in which the usual mistakes show: small ones, very large ones, very negative ones, one element."""
    rows = _numbers(3, 5, seed=5)
    return ((rows[:1, :3], "a row of 3"), (rows, "3 rows of 5"), (rows * 1000, "values around 1000"),
            (rows - 200, "values around -200"), (rows[:, :1].clone(), "rows of 1"))


def _expect_softmax(out, x, case) -> None:
    unstable = x.double().exp() / x.double().exp().sum(1, keepdim=True)
    expect_close(out, x.double().softmax(1), case=case, atol=1e-5,
                 hint="subtract the row's maximum, exponentiate, divide by the sum; lanes that are off must not count in either.",
                 slips=((x.double().exp(), "divide by the sum of the exponentials."),
                        (x.double().softmax(0), "each row on its own: the sum runs along the row."),
                        (torch.full_like(unstable, float("nan")), "exp of a large number overflows: subtract the maximum first.")))


@exercise
def softmax(kernel) -> None:
    """Puzzle 3: `kernel[(M,)](x_ptr, out_ptr, N, BLOCK)` with BLOCK >= N; each program one row of (M, N)."""
    for x, case in _softmax_cases():
        out = _launch(kernel, (len(x),), (x,), x.shape, x.shape[1], case=f"{case}, BLOCK = 8", BLOCK=8)
        _expect_softmax(out, x, case)
    _compiles(kernel, x_ptr="*fp32", out_ptr="*fp32", N="i32", BLOCK=128)


@exercise
def matmul(kernel) -> None:
    """Puzzle 4: `kernel[(cdiv(M, BLOCK), cdiv(N, BLOCK))](a_ptr, b_ptr, c_ptr, M, N, K, BLOCK)`; c = a @ b, any sizes."""
    for m, n, k in ((2, 3, 4), (16, 16, 32), (20, 18, 33), (1, 17, 5)):
        a, b = _numbers(m, k, seed=m), _numbers(k, n, seed=n + 9)
        case = f"(M, N, K) = ({m}, {n}, {k}), BLOCK = 16"
        out = _launch(kernel, (-(-m // 16), -(-n // 16)), (a, b), (m, n), m, n, k, case=case, BLOCK=16)
        expect_close(out, a.double() @ b.double(), case=case, atol=1e-3,
                     hint="a has K elements a row, b and c have N; the loop over K ends with a block of which a part is off.",
                     slips=((a[:, :k - k % 16].double() @ b[:k - k % 16].double(),
                             "the last block of the loop is missing: K need not be a multiple of BLOCK."),
                            (a[:, :16].double() @ b[:16].double(), "only the first block of K was summed: add the loop.")))
    compiled = _compiles(kernel, a_ptr="*fp32", b_ptr="*fp32", c_ptr="*fp32", M="i32", N="i32", K="i32", BLOCK=16)
    if "tf32" in compiled["ptx"]:
        raise AssertionError("right in the interpreter, but on a GPU `tl.dot` rounds what it multiplies to TF32, about three digits\n"
                             '  hint: tl.dot(..., input_precision="ieee"); section 7 shows the difference')


@exercise
def long_softmax(kernel) -> None:
    """Puzzle 5: `kernel[(M,)](x_ptr, out_ptr, N, BLOCK)` with N of any size, and x read at most twice."""
    for x, case in (*_softmax_cases(), (_numbers(2, 19, seed=2) * 30, "2 rows of 19"), (_numbers(1, 8, seed=3).sort().values * 99, "rising")):
        seen: list = []
        out = _launch(kernel, (len(x),), (x,), x.shape, x.shape[1], case=f"{case}, BLOCK = 4", watched=seen, BLOCK=4)
        _expect_softmax(out, x, f"{case}, BLOCK = 4")
        loads = sum(access.cells.size for access in seen[0].accesses if (access.tensor, access.kind) == ("x", "load"))
        if loads > 2 * x.numel():
            raise AssertionError(
                f"{case}: right, but {loads} elements of x are read where {2 * x.numel()} suffice\n"
                "  hint: one pass can keep the maximum so far and the sum so far, if the sum is rescaled by exp(old maximum - new "
                "maximum) whenever the maximum rises")
    _compiles(kernel, x_ptr="*fp32", out_ptr="*fp32", N="i32", BLOCK=128)


def _numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _launch(kernel, grid, inputs, out_shape, *numbers, case: str, watched: list | None = None, **constants) -> torch.Tensor:
    """Run the kernel on copies of the inputs between fences; returns what it stored. Raises AssertionError for stray accesses.

    The kernel gets the inputs, the output, the numbers, and the constants by name. watched: receives the trace.
    """
    from triton.runtime.errors import InterpreterError

    from rftlab.kernels import trace

    if not hasattr(kernel, "fn"):
        raise AssertionError(f"{case}: expected a kernel, got {type(kernel).__name__}\n  hint: the line above `def` is @triton.jit")
    names = [name.removesuffix("_ptr") for name in kernel.fn.__code__.co_varnames[:len(inputs) + 1]]
    given = [_fenced(tensor) for tensor in (*inputs, torch.full(out_shape, float("nan")))]
    with trace.watch(undefined=float("nan"), **dict(zip(names, given, strict=True))) as seen:
        try:
            kernel[grid](*given, *numbers, **constants)
        except InterpreterError as error:
            if isinstance(error.__cause__, NotImplementedError):
                raise error.__cause__ from None  # the stub's own: "not attempted"
            raise
    if watched is not None:
        watched.append(seen)
    _stays_inside(seen, names, inputs, given, case)
    return given[-1].clone()


def _stays_inside(seen, names, inputs, given, case) -> None:
    """Raise AssertionError unless the kernel wrote each element of the output once, nothing else, and read inside."""
    problem = None
    if seen.outside():
        problem, hint = f"{seen.outside()} accesses lie outside the tensors", "mask loads and stores: offset < size"
    elif any(not torch.equal(before, after) for before, after in zip(inputs, given)):
        problem, hint = "an input was changed", "store to the output only"
    else:
        writer = seen.toucher(names[-1], "store")
        if (writer == -1).any():
            problem = f"{int((writer == -1).sum())} of {writer.size} elements of the output were never stored"
            hint = "which program should store them, and does its mask let it?"
        elif (writer == -2).any():
            problem = "several programs store to the same element, and on a GPU nobody knows who comes last"
            hint = "offsets must depend on tl.program_id"
        elif given[-1].isnan().any():
            problem = "NaN in the output"
            hint = ("lanes that are off read NaN here unless the load says other=...: a GPU promises nothing about them. "
                    "Or a sum has overflowed: infinity / infinity, infinity - infinity")
    if problem:
        raise AssertionError(f"{case}: {problem}\n{_indented(str(seen))}\n  hint: {hint}")


def _fenced(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of the tensor in the middle of a buffer of NaN."""
    buffer = torch.full((tensor.numel() + 2 * FENCE,), float("nan"))
    inner = buffer[FENCE:FENCE + tensor.numel()].view(tensor.shape)
    return inner.copy_(tensor)


def _indented(text: str, most: int = 8) -> str:
    lines = text.splitlines()
    return "\n".join([f"  {line[:150]}" for line in lines[:most]] + (["  ..."] if len(lines) > most else []))


def _compiles(kernel, **signature) -> dict:
    """What the compiler makes of a kernel that is right in the interpreter. AssertionError when it does not compile for a GPU."""
    from rftlab.kernels import offline

    names = kernel.fn.__code__.co_varnames[:kernel.fn.__code__.co_argcount]
    try:
        return offline.compile_kernel(kernel, dict(zip(names, signature.values(), strict=True)))
    except offline.CompileError as error:
        raise AssertionError(f"right in the interpreter, but it does not compile:\n{_indented(str(error), most=12)}\n"
                             "  hint: in the interpreter a kernel is ordinary Python, on a GPU it is not") from None
