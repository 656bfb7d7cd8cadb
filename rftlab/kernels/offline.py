"""Compile a kernel of a notebook down to PTX, with no GPU and although the notebook interprets its kernels.

    ptx = offline.compile_kernel(add_kernel, {"x_ptr": "*fp32", "out_ptr": "*fp32", "n": "i32", "BLOCK": 128})["ptx"]

A process in which TRITON_INTERPRET is set cannot compile: `tl.sum` and its like were replaced when Triton was imported.
So the kernel's source goes to a fresh process. This compiles code of one's own; what others wrote belongs into the
grader (rftlab.kernels), since compiling can run code.
"""
import inspect
import json
import linecache
import os
import subprocess
import sys
import textwrap
import types

TIMEOUT = 120  # seconds; a kernel takes one or two, most of it for the start of the process
STAGES = ("ttir", "ttgir", "llir", "ptx")
HEADER = "import triton\nimport triton.language as tl\n"


class CompileError(RuntimeError):
    """The kernel does not compile; the message is Triton's, with the line that it stumbled over."""


def compile_kernel(kernel, signature: dict, target: str = "sm_80") -> dict[str, str]:
    """Compile a `@triton.jit` function; returns the text of each stage: "ttir", "ttgir", "llir" and "ptx".

    signature: for each parameter a type such as "*fp32" (a pointer), "i32" or "fp32", or the value of a constexpr.
    target: an NVIDIA architecture, sm_80 (A100) or later. Raises CompileError when Triton refuses, ValueError for a
    signature that does not fit or a function without source.
    """
    names = list(inspect.signature(kernel.fn).parameters)
    if list(signature) != names:
        raise ValueError(f"the signature names {list(signature)}, the kernel takes {names}: one entry each, in order")
    request = {"source": source_of(kernel), "name": kernel.fn.__name__, "signature": signature, "target": target}
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "rftlab.kernels.offline"]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)  # rftlab may come from sys.path alone
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, env=environment, timeout=TIMEOUT)
    if done.returncode:
        raise RuntimeError(f"the compiling process failed with status {done.returncode}: {done.stderr.strip()[-500:]}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise CompileError(answer["error"])
    return answer


def source_of(kernel) -> str:
    """The source of a kernel as a module of its own: with its imports, helper kernels and plain global values."""
    try:
        source = inspect.getsource(kernel.fn)
    except OSError:
        raise ValueError(f"the source of {kernel.fn.__name__} is not to be found: define it in a file or a cell") from None
    parts = []
    for name in kernel.fn.__code__.co_names:
        value = kernel.fn.__globals__.get(name)
        if isinstance(value, types.ModuleType):
            parts.append(f"import {value.__name__} as {name}\n")
        elif hasattr(value, "fn") and value is not kernel:
            parts.append(source_of(value).removeprefix(HEADER))
        elif isinstance(value, (bool, int, float, str)):
            parts.append(f"{name} = {value!r}\n")
        elif type(value).__name__ == "constexpr":
            parts.append(f"{name} = tl.constexpr({value.value!r})\n")
    return HEADER + "".join(dict.fromkeys(parts)) + textwrap.dedent(source)


def stages(function, signature: dict, target: str) -> dict[str, str]:
    """Run Triton's stages one after another in this process; returns their texts."""
    types_ = {name: value if isinstance(value, str) else "constexpr" for name, value in signature.items()}
    constants = {(i,): value for i, value in enumerate(signature.values()) if not isinstance(value, str)}
    return {name: str(code) for name, code, _ in lowering(function, types_, constants, int(target.removeprefix("sm_"))) if name in STAGES}


def lowering(function, signature: dict[str, str], constants: dict, capability: int, options: dict | None = None, context=None):
    """Yield (stage, code, metadata) of a kernel: "ir", Triton's front end, then each of `STAGES`; raises what Triton raises.

    The last stage, ptxas, which needs CUDA's tools, is left out.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend

    target = GPUTarget("cuda", capability, 32)
    source, backend = ASTSource(fn=function, signature=signature, constexprs=constants), make_backend(target)
    parsed, steps = backend.parse_options(options or {}), {}
    backend.add_stages(steps, parsed, source.language)
    metadata = {"target": target, **parsed.__dict__}
    code = source.make_ir(target, parsed, backend.get_codegen_implementation(parsed), backend.get_module_map(), context or new_context())
    yield "ir", code, metadata
    for name in STAGES:
        code = steps[name](code, metadata)
        yield name, code, metadata


def new_context():
    """An MLIR context with Triton's dialects and those of NVIDIA's backend."""
    from triton._C.libtriton import ir
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend

    context = ir.context()
    ir.load_dialects(context)
    make_backend(GPUTarget("cuda", 80, 32)).load_dialects(context)
    return context


def main() -> None:
    """Read one request from the standard input and answer it; for compile_kernel."""
    request = json.load(sys.stdin)
    name = f"<{request['name']}>"
    linecache.cache[name] = (len(request["source"]), None, request["source"].splitlines(True), name)  # Triton reads it there
    module = types.ModuleType("kernel")
    module.__file__ = name
    sys.modules["kernel"] = module
    exec(compile(request["source"], name, "exec"), module.__dict__)
    from triton.compiler.errors import CompilationError

    try:
        answer = stages(getattr(module, request["name"]), request["signature"], request["target"])
    except CompilationError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
