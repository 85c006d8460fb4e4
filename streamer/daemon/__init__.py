"""The loops: forecaster and trainer, and what they report."""
