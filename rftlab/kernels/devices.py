"""What programs may ask about a GPU, answered the same when they are interpreted and when they are compiled, with none there.

Otherwise a program could find out which of the two it is in. There is no GPU, so `torch.cuda.is_available()` is False; entering a
device and waiting for it do nothing; the figures that persistent kernels divide their work by are those of an A100.
"""

import types

PROPERTIES = types.SimpleNamespace(multi_processor_count=108, warp_size=32)
TARGET = types.SimpleNamespace(backend="cuda", arch=80, warp_size=32)


class Device:
    """Stands for `torch.cuda.device` and `torch.cuda.device_of`."""

    def __init__(self, device):
        pass

    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def install(torch, triton) -> None:
    """Patch torch, or what stands for it, and the driver of Triton."""
    cuda = torch.cuda
    cuda.is_available, cuda.device_count, cuda.current_device = lambda: False, lambda: 0, lambda: 0
    cuda.synchronize, cuda.get_device_properties = lambda *_: None, lambda *_: PROPERTIES
    cuda.device = cuda.device_of = Device
    cpu = torch.device("cpu")
    triton.runtime.driver.set_active(types.SimpleNamespace(get_active_torch_device=lambda: cpu, get_current_target=lambda: TARGET))
