from pathlib import Path

import numpy as np

from engine import tensors


def test_arrays_come_back_whatever_order_they_lay_in(tmp_path: Path) -> None:
    """Convolutions of a network lie channels last, which is not C-order."""
    lying = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    assert not lying.flags.c_contiguous
    tensors.write(tmp_path / "a.safetensors", "made-up", 1, {"n": 3}, {"lying": lying})
    settings, arrays = tensors.read(tmp_path / "a.safetensors", "made-up", 1)
    assert settings == {"n": 3}
    np.testing.assert_array_equal(arrays["lying"], lying)
