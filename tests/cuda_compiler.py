"""Compiles CUDA without a GPU, by NVRTC (like CuPy) or, if NVRTC is not installed, by nvcc."""

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def compiler() -> str | None:
    """Path of the NVRTC library or of the program nvcc; None if neither is installed."""
    return _nvrtc() or shutil.which("nvcc")


def compile_cuda(source: Path, architecture: str, options: Sequence[str]) -> bytes:
    """The machine code of a source file for an architecture such as `sm_90`.

    Raises ValueError with the compiler's messages if the source does not compile.
    """
    options = ["-std=c++17", f"-arch={architecture}", *options]
    library = _nvrtc()
    return _by_nvrtc(ctypes.CDLL(library), source, options) if library else _by_nvcc(source, options)


def _nvrtc() -> str | None:
    """Path of the NVRTC library in one of NVIDIA's wheels, or on the linker's path; None if there is none."""
    for package in ("nvidia.cuda_nvrtc", "nvidia.cu13"):
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        for folder in spec.submodule_search_locations or () if spec else ():
            for path in sorted(Path(folder, "lib").glob("libnvrtc.so.*")):
                return str(path)
    for version in (13, 12):
        try:
            return str(ctypes.CDLL(f"libnvrtc.so.{version}")._name)
        except OSError:
            continue
    return None


def _by_nvrtc(nvrtc: ctypes.CDLL, source: Path, options: Sequence[str]) -> bytes:
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), source.name.encode(), 0, None, None)
    arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), arguments)
    if failed:
        raise ValueError(_got(nvrtc, "ProgramLog", program).decode())
    return _got(nvrtc, "CUBIN", program)


def _got(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    nvrtc[f"nvrtcGet{what}Size"](program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    nvrtc[f"nvrtcGet{what}"](program, text)
    return text.raw


def _by_nvcc(source: Path, options: Sequence[str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.cubin")
        done = subprocess.run(["nvcc", "-cubin", *options, "-o", out, source], capture_output=True, text=True)
        if done.returncode:
            raise ValueError(done.stderr)
        return out.read_bytes()
