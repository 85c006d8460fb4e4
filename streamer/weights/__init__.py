"""The weights that come with the package, and the model that a configuration asks for."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from streamer.config.sources import ConfigError
from streamer.core.network.config import SHAPE, ModelConfig
from streamer.core.network.model import Forecaster, baseline_mixture, unpack


def open_model(config: ModelConfig, *, taught_later: bool = False) -> Forecaster:
    """
    The network with the weights that *config* names; raises ConfigError where they don't fit.

    Where it is *taught_later*, the baselines serve meanwhile in the place of a network of
    which the package has none; a file that was named must fit all the same.
    """
    network, _ = unpack(_packed(config))
    if taught_later and config.weights is None and others(config, network.config):
        return baseline_mixture(config)
    for key in others(config, network.config):
        asked, found = getattr(config, key), getattr(network.config, key)
        which = "the weights shipped" if config.weights is None else config.weights
        raise ConfigError(
            f"model.{key}: is {asked}, but {which} have {found}; "
            "`streamer pretrain` makes others, `model.weights` names them"
        )
    return Forecaster(network)


def others(config: ModelConfig, found: ModelConfig) -> list[str]:
    """In what a network's shape is another than asked for."""
    return [key for key in SHAPE if getattr(config, key) != getattr(found, key)]


def shipped(cell: str) -> bytes:
    """The weights that come with the package for a network with this *cell*, packed."""
    return resources.files(__name__).joinpath(f"{cell}.safetensors").read_bytes()


def _packed(config: ModelConfig) -> bytes:
    if config.weights is None:
        return shipped(config.cell)
    try:
        return Path(config.weights).read_bytes()
    except OSError as error:
        raise ConfigError(f"model.weights: {config.weights} can't be read: {error}") from error
