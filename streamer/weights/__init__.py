"""The weights that come with the package, and the model that a configuration asks for."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from streamer.config.sources import ConfigError
from streamer.core.network import peak_head
from streamer.core.network.config import SHAPE, ModelConfig
from streamer.core.network.model import Forecaster, baseline_mixture, unpack
from streamer.core.network.peak_head import PeakHead


def open_model(config: ModelConfig, *, trained_later: bool = False) -> Forecaster:
    """
    The network with the weights that *config* names; raises ConfigError where they don't fit.

    Where it is *trained_later*, the baselines serve meanwhile in the place of a network of
    which the package has none; a file that was named must fit all the same.
    """
    try:
        network, _ = unpack(_packed(config))
    except ValueError as error:
        raise ConfigError(f"model.weights: {config.weights} {error}") from error
    if trained_later and config.weights is None and others(config, network.config):
        return baseline_mixture(config)
    for key in others(config, network.config):
        asked, found = getattr(config, key), getattr(network.config, key)
        which = "the weights shipped" if config.weights is None else config.weights
        raise ConfigError(
            f"model.{key}: is {asked}, but {which} have {found}; "
            "`streamer pretrain` makes others, `model.weights` names them"
        )
    return Forecaster(network)


def open_peak_head() -> PeakHead:
    """The head of peaks that comes with the package; it serves beside any network."""
    return peak_head.unpack(shipped("peaks"))


def others(config: ModelConfig, found: ModelConfig) -> list[str]:
    """In what a network's shape is another than asked for."""
    return [key for key in SHAPE if getattr(config, key) != getattr(found, key)]


def shipped(name: str) -> bytes:
    """The weights that come with the package, packed: of a network by its cell, or of `peaks`."""
    return resources.files(__name__).joinpath(f"{name}.safetensors").read_bytes()


def _packed(config: ModelConfig) -> bytes:
    if config.weights is None:
        return shipped(config.cell)
    try:
        return Path(config.weights).read_bytes()
    except OSError as error:
        raise ConfigError(f"model.weights: {config.weights} can't be read: {error}") from error
