"""The child's side of `transform`: what rewritten kernels call, and how Triton's interpreter comes by them.

Triton's own way puts 64 names into the program's globals, numpy among them. Here they are builtins with a blank in their names, which no program can write.
"""

import builtins
import operator

import triton.language as tl
from triton.runtime import interpreter

from rftlab.kernels import operations

kernels: dict[int, tuple] = {}  # first line -> (name, code), of the program under test
COMPARE = {
    "Eq": operator.eq, "NotEq": operator.ne, "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt, "GtE": operator.ge,
    "Is": lambda a, b: plain(a) is plain(b), "IsNot": lambda a, b: plain(a) is not plain(b),
    "In": lambda a, b: a in b, "NotIn": lambda a, b: a not in b,
}  # fmt: skip


def install() -> None:
    called = {
        "tensor": assigned, "print": lambda function, *args, **options: (tl.device_print if function is print else function)(*args, **options),
        "annotated": lambda value, kind: value if kind is tl.constexpr else assigned(value),
        "extreme": extreme, "range": counting, "not": lane_wise_not, "and": lane_wise("logical_and", False), "or": lane_wise("logical_or", True),
        "chain": chain, "choice": choice, "remainder": remainder, "gone": Gone, "later": lambda value: lambda: value,
    }  # fmt: skip
    for name, function in called.items():
        setattr(builtins, f"interpreter {name}", function)
    for name in ("interpreter_semantic", "_InterpreterComparison"):  # for Triton's own functions
        setattr(builtins, name, getattr(interpreter, name, None))
    interpreter.FunctionRewriter._compile_and_exec = compile_and_exec
    for module in (tl.standard, tl.random):  # their sources cannot be read after the lock-down
        for value in list(vars(module).values()):
            if isinstance(value, interpreter.InterpretedFunction):
                value.rewrite()
    interpreter.FunctionRewriter.rewrite_ast = rewrite


def rewrite(self):
    """Replaces `FunctionRewriter.rewrite_ast`: the form that `transform` made of this function, or the function as it is."""
    name, code = kernels.get(self.fn.__code__.co_firstlineno, (None, None))
    return execute(self, code) if name == self.fn.__name__ else self.fn


def compile_and_exec(self, tree):
    """Triton's own, less the names that it adds to the globals."""
    return execute(self, compile(tree, self.filename, "exec"))


def execute(self, code):
    names = dict(self.kwargs)
    exec(code, self.fn.__globals__, names)
    return names[self.fn.__name__]


def assigned(value):
    """What a variable holds that this value is assigned to: numbers become tensors, those in tuples, too."""
    if type(value) in (tuple, tl.tuple):
        return tuple(map(assigned, value))
    return interpreter.interpreter_semantic.to_tensor(value, False)


def counting(first, end=None, step=1, num_stages=None, **_):
    """`range` and `tl.range` of a kernel: yields int32 scalars of the interpreter, as the compiler's loops do."""
    first, end = (0, first) if end is None else (first, end)
    if isinstance(step, tl.tensor) and step.handle.data.item() <= 0:
        raise ValueError("a range with a step that is known only in the run counts upwards on a GPU: make the step a constexpr")
    around = operations.running.enter_loop(pipelined=(plain(num_stages) or 1) > 1)
    for i in range(first, end, step):
        yield interpreter.interpreter_semantic.to_tensor(i)
    operations.running.loop = around


def plain(value):
    """A constant without the wrapper that global ones have, which the compiler does not see either."""
    return value.value if isinstance(value, tl.constexpr) else value


def lane_wise(method: str, decides: bool):
    """`and` or `or`: lane by lane where an operand is a tensor; `decides` is the plain value that ends the evaluation."""

    def operator(value, *rest):
        for later in rest:
            if not isinstance(value, tl.tensor) and bool(value) is decides:
                return value
            other = later()
            if isinstance(value, tl.tensor):
                value = getattr(value, method)(other)
            else:
                value = getattr(other, method)(value) if isinstance(other, tl.tensor) else other
        return value

    return operator


def choice(condition, chosen, other):
    """`a if condition else b`: where only the run knows the condition, a number becomes a tensor."""
    value = (chosen if condition else other)()
    return assigned(value) if isinstance(condition, tl.tensor) else value


def chain(names, left, *rest):
    """`a < b < c`: each operand once, and no more of them than decide."""
    result = True
    for name, later in zip(names.split(), rest):
        right = later()
        result = lane_wise("logical_and", False)(result, lambda: COMPARE[name](left, right))
        if not isinstance(result, tl.tensor) and not result:
            break
        left = right
    return result


class Gone:
    """What the variable of a loop is after the loop: any use raises NameError. Python keeps the last value, the compiler does not."""

    def __init__(self, name):
        object.__setattr__(self, "name", name)

    def _refuse(self, *_):
        raise NameError(f"{object.__getattribute__(self, 'name')} is the variable of a loop that is over: on a GPU it has lost its value")

    __getattribute__ = __bool__ = __index__ = __call__ = __iter__ = __eq__ = __hash__ = __neg__ = __invert__ = __abs__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __ne__ = __getitem__ = __float__ = __int__ = __str__ = __repr__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse
    __truediv__ = __rtruediv__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rshift__ = __pow__ = _refuse


def extreme(function, *values):
    """`min` or `max`, which the compiler takes for tl.minimum and tl.maximum; or a variable of that name."""
    if function in (min, max) and any(isinstance(value, tl.tensor) for value in values):
        return (tl.minimum if function is min else tl.maximum)(*values)
    return function(*values)


def remainder(left, right):
    """`left % right` of numbers. A text would tell the interpreter from the compiler: tuples and constants print otherwise there."""
    if isinstance(plain(left), (str, bytes)):
        raise TypeError("a kernel cannot make a text of values with %: compare the values themselves")
    return left % right


def lane_wise_not(value):
    return value.__not__() if isinstance(value, tl.tensor) else not value
