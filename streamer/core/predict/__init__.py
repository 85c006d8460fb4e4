"""Conversion of the network's outputs to calibrated bands, and the bands' scores."""
