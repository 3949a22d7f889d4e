"""Pieces that several networks share."""

from __future__ import annotations

import torch
from torch import nn


def conv_norm(inputs: int, outputs: int, norm: type[nn.Module] = nn.BatchNorm3d, stride: int = 1) -> nn.Sequential:
    """3^3 convolution, normalisation, ReLU."""
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1), norm(outputs), nn.ReLU())


def parameters(module: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in module.parameters())


def xavier(module: nn.Module) -> nn.Module:
    """Xavier uniform weights and zero biases in every convolution (Glorot and Bengio 2010); returns the module."""
    for part in module.modules():
        if isinstance(part, (nn.Conv3d, nn.ConvTranspose3d)):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


def small(layer: nn.Conv3d, scale: float = 1e-3) -> nn.Conv3d:
    """A last layer that begins near zero: the first field is the identity, nearly."""
    with torch.no_grad():
        layer.weight.mul_(scale)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer
