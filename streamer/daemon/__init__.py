"""The loops of forecaster and trainer, and the events that they report."""
