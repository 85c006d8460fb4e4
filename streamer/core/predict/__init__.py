"""From the network's outputs to calibrated bands, and their scores."""
