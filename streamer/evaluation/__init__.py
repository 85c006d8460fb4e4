"""Backtests: metrics, baselines, flow classes, and the report."""
