"""A stand-in for CuPy on the CPU: the parts that `engine.alignment.gpu` uses, with NumPy's arrays.

The kernels are the real ones, compiled as C++ with the definitions of `cuda_on_cpu.cpp`. The stand-in cannot tell
whether a compiler for GPUs accepts the kernels, and it does not find every race.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

COMPILER = shutil.which("g++")


class DeviceFailure(Exception):
    """Stands for CuPy's errors of the runtime and the driver."""


class OutOfMemory(Exception):
    """Stands for CuPy's error when the GPU's memory is full."""


class RawModule:
    """The kernels of one source, compiled with one set of options."""

    def __init__(self, *, code: str, options: Sequence[str]) -> None:
        self._library = _compiled(code, tuple(option for option in options if option.startswith("-D")))

    def get_function(self, name: str) -> "Kernel":
        return Kernel(getattr(self._library, f"run_{name}"))


class Kernel:
    """One kernel, called as CuPy calls it."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.max_dynamic_shared_size_bytes = 48 << 10

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], arguments: Sequence[Any], *, shared_mem: int = 0
    ) -> None:
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        values = [
            ctypes.c_void_p(each.ctypes.data)
            if isinstance(each, np.ndarray)
            else np.ctypeslib.as_ctypes(np.asarray(each))
            for each in arguments
        ]
        addresses = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        self._function(*(*grid, 1)[:2], *block, addresses)


class EmulatedCupy:
    """The module `cupy`. If `fails` is set, every function that allocates memory raises it."""

    RawModule = RawModule
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(CUDARuntimeError=DeviceFailure),
        driver=SimpleNamespace(CUDADriverError=DeviceFailure),
        compiler=SimpleNamespace(CompileException=DeviceFailure),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemory),
    )

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.sent = 0
        """Number of arrays that were sent to the GPU."""

    def asarray(self, array: NDArray[Any]) -> NDArray[Any]:
        assert array.flags.c_contiguous
        self.sent += 1
        return self.full(array.shape, array, array.dtype)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        return self.full(shape, np.nan, dtype)  # NaN shows results that nothing has written

    def full(self, shape: tuple[int, ...], value: Any, dtype: Any) -> NDArray[Any]:
        if self.fails is not None:
            raise self.fails
        return np.full(shape, value, dtype)

    def asnumpy(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.copy()

    def get_default_memory_pool(self) -> Any:
        return SimpleNamespace(free_all_blocks=lambda: None)


@functools.cache
def _compiled(code: str, macros: tuple[str, ...]) -> ctypes.CDLL:
    assert COMPILER is not None
    folder = Path(tempfile.mkdtemp())
    source, library = folder / "gpu.cu", folder / "gpu.so"
    source.write_text(code, encoding="utf-8")
    options = [
        "-std=c++17",
        "-O2",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Werror",
        "-Wno-unused",
        "-Wno-unknown-pragmas",
        *macros,
    ]
    command = [COMPILER, *options, f'-DGPU_SOURCE="{source}"', "-o", str(library)]
    subprocess.run([*command, str(Path(__file__).parent / "cuda_on_cpu.cpp")], check=True)
    loaded = ctypes.CDLL(str(library))
    shutil.rmtree(folder)
    return loaded
