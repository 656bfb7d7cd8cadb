"""`triton.language.extra.libdevice` for the interpreter, which knows none of it: the common functions, by numpy."""

import math

import numpy as np


def _each(function):
    vector = np.vectorize(function, otypes=[np.float64])
    return lambda x: vector(x).astype(x.dtype)


def _lgamma(x):
    return math.inf if x <= 0 and x == math.floor(x) else math.lgamma(x)


def _tgamma(x):
    try:
        return math.gamma(x)
    except (ValueError, OverflowError):
        return math.nan if x < 0 else math.inf


FUNCTIONS = {
    "abs": np.abs, "fabs": np.abs, "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh, "atan": np.arctan,
    "atan2": np.arctan2, "atanh": np.arctanh, "cbrt": np.cbrt, "ceil": np.ceil, "copysign": np.copysign, "cos": np.cos, "cosh": np.cosh,
    "div_rn": np.divide, "erf": _each(math.erf), "erfc": _each(math.erfc), "exp": np.exp, "exp2": np.exp2, "exp10": lambda x: np.power(x.dtype.type(10), x),
    "expm1": np.expm1, "fast_cosf": np.cos, "fast_dividef": np.divide, "fast_expf": np.exp, "fast_logf": np.log, "fast_powf": lambda x, y: np.exp2(y * np.log2(x)),
    "fast_sinf": np.sin, "fdim": lambda x, y: np.maximum(x - y, x.dtype.type(0)), "floor": np.floor, "fma": lambda x, y, z: x * y + z,
    "fmod": np.fmod, "hypot": np.hypot, "isfinited": np.isfinite, "isinf": np.isinf, "isnan": np.isnan, "finitef": np.isfinite,
    "lgamma": _each(_lgamma), "log": np.log, "log10": np.log10, "log1p": np.log1p, "log2": np.log2, "nearbyint": np.rint, "pow": np.power,
    "rcp_rn": np.reciprocal, "rint": np.rint, "round": lambda x: np.copysign(np.floor(np.abs(x) + x.dtype.type(0.5)), x), "rsqrt": lambda x: 1 / np.sqrt(x), "signbit": np.signbit,
    "sin": np.sin, "sinh": np.sinh, "sqrt": np.sqrt, "sqrt_rn": np.sqrt, "tan": np.tan, "tanh": np.tanh, "fast_tanhf": np.tanh, "tgamma": _each(_tgamma),
    "trunc": np.trunc,
}  # fmt: skip


def install() -> None:
    """Give `triton.language.extra.libdevice` working functions, for kernels that run in the interpreter."""
    import triton.language as tl
    from triton.language.extra import cuda, libdevice
    from triton.runtime import interpreter

    from rftlab.kernels.arithmetic import np_dtype

    handle, semantic = interpreter.TensorHandle, interpreter.interpreter_semantic

    def bind(name, function):
        def call(*args, _semantic=None):
            tensors = [semantic.to_tensor(arg) for arg in args]
            for i in range(1, len(tensors)):
                tensors[0], tensors[i] = semantic.broadcast_impl_value(tensors[0], tensors[i])
            data = function(*(tensor.handle.data for tensor in tensors))
            dtype = tensors[0].dtype
            if data.dtype == bool:
                dtype, data = tl.int32, data.astype(np.int32)
            elif data.dtype.kind == "f" and dtype.is_floating():  # numpy computes pow(x, 2) of a float32 x in float64
                data = data.astype(np_dtype(dtype), copy=False)
            shape = tensors[0].type.shape if tensors[0].type.is_block() else None
            return tl.tensor(handle(data, dtype), tl.block_type(dtype, shape) if shape else dtype)

        call.__name__, call.__module__ = name, libdevice.__name__
        return call

    for name, function in FUNCTIONS.items():
        for module in (libdevice, cuda.libdevice):
            if hasattr(module, name):
                setattr(module, name, bind(name, function))
