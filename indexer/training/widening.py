"""A network made wider, so that a training goes on with more channels from what fewer have learnt."""

import torch
from torch import Tensor

from engine.embedding.network import Network


def widen(narrow: Network, wide: Network) -> None:
    """Sets `wide` to a network that computes what `narrow` computes, with more channels.

    Each tensor of `narrow` becomes the first part of the tensor of the same name. What the new channels send to the
    former ones is 0; what they receive keeps its random weights, so that they can learn.
    Source: Chen et al., "Net2Net" (ICLR 2016), whose new channels are copies of former ones instead.
    Raises ValueError if the networks differ in more than their width, or `wide` is narrower somewhere.
    """
    former, tensors = narrow.state_dict(), wide.state_dict()
    if former.keys() != tensors.keys():
        raise ValueError("their layers differ")
    for name, tensor in tensors.items():
        if tensor.dim() != former[name].dim() or any(
            new < old for new, old in zip(tensor.shape, former[name].shape, strict=True)
        ):
            raise ValueError(f"{name} would shrink from {tuple(former[name].shape)} to {tuple(tensor.shape)}")
        _place(former[name], tensor)


def _place(former: Tensor, tensor: Tensor) -> None:
    """Writes the former weights of a layer into its wider weights, whose axes are outputs, inputs, and the kernel's."""
    with torch.no_grad():
        if tensor.dim() > 1:
            tensor[: len(former)] = 0
        tensor[tuple(slice(size) for size in former.shape)] = former
