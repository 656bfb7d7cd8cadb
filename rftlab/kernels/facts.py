"""What kernels can see of their program, in a form that is the same where it is interpreted and where it is compiled.

A program that found out which of the two it is in could be another one in each: so the global values are compared (`facts`), and the
constants of a launch go from the run to the compiler by value (`encode`, `decode`).
"""

import hashlib
import json
import types

from rftlab.kernels.extract import FILE

LIBRARIES = ("triton", "math", "builtins")  # torch is not there when kernels are compiled


def facts(module) -> str:
    """A digest of all global values and defaults that kernels can see, to be the same when interpreted and when compiled.

    Otherwise a program could find out which of the two it is in, and be another one in each.
    """
    return hashlib.blake2b(json.dumps({name: fact(value) for name, value in vars(module).items() if name != "__builtins__"}).encode()).hexdigest()


def fact(value):
    """A global value in a form that does not depend on how Triton wraps it."""
    import triton.language as tl

    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return [fact(one) for one in value]
    if isinstance(value, tl.constexpr):
        return {"constexpr": fact(unchanging(value.value))}
    if isinstance(value, tl.dtype):
        return {"dtype": value.name}
    if isinstance(value, types.ModuleType):
        return "other"
    wrapped = hasattr(value, "fn")
    while hasattr(value, "fn"):
        value = value.fn
    if callable(value) and (not isinstance(value, types.FunctionType) or value.__code__.co_filename != FILE):
        member = (getattr(value, "__kwdefaults__", None) or {}).get("member", value)  # what the interpreter has wrapped
        home = str(getattr(member, "__module__", "")).split(".")[0]
        return {"library": member.__name__} if home in LIBRARIES and hasattr(member, "__name__") else "other"
    if isinstance(value, types.FunctionType):
        constants = [str(kind) for kind in value.__annotations__.values()] if wrapped else []
        defaults = [fact(unchanging(one)) for one in value.__defaults__ or ()] if wrapped else []
        return {"kernel" if wrapped else "function": [value.__name__, value.__code__.co_firstlineno, len(constants), defaults]}
    return "other"


def unchanging(value):
    """The value of a constexpr or of a kernel's default; raises TypeError for one that could change between run and compile."""
    for one in value if isinstance(value, tuple) else ():
        unchanging(one)
    if isinstance(value, (list, dict, set)):
        raise TypeError(f"a {type(value).__name__} is no compile-time constant: use a tuple")
    return value


def encode(value):
    """A constexpr as JSON: plain values as they are, dtypes and kernels by name."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpretedFunction

    if isinstance(value, tl.constexpr):
        return encode(value.value)
    if isinstance(value, (list, tuple)):
        return {"tuple": [encode(one) for one in value]}
    if isinstance(value, tl.dtype):
        return {"dtype": value.name}
    if isinstance(value, InterpretedFunction):
        return {"kernel": value.__name__}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} is no compile-time constant")


def decode(value, module):
    """A constant from JSON; see `encode`."""
    import triton.language as tl

    if not isinstance(value, dict):
        return value
    if "dtype" in value:
        return tl.dtype(value["dtype"])
    return tuple(decode(v, module) for v in value["tuple"]) if "tuple" in value else getattr(module, value["kernel"])
