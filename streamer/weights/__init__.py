"""The weights that come with the package, and the model that a configuration asks for."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from streamer.core.model import Forecaster, unpack
from streamer.core.shape import ModelConfig
from streamer.layers import ConfigError


def open_model(config: ModelConfig) -> Forecaster:
    """The network with the weights that *config* names; raises ConfigError where they don't fit."""
    network, _ = unpack(_packed(config))
    for key in ("cell", "hidden", "layers"):
        asked, found = getattr(config, key), getattr(network.config, key)
        if asked != found:
            which = "the weights shipped" if config.weights is None else config.weights
            raise ConfigError(
                f"model.{key}: is {asked}, but {which} have {found}; "
                "`streamer pretrain` makes others, `model.weights` names them"
            )
    return Forecaster(network)


def _packed(config: ModelConfig) -> bytes:
    if config.weights is None:
        return resources.files(__name__).joinpath("default.safetensors").read_bytes()
    try:
        return Path(config.weights).read_bytes()
    except OSError as error:
        raise ConfigError(f"model.weights: {config.weights} can't be read: {error}") from error
