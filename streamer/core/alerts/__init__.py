"""Alerts: rules over forecasts, the life of an alert, and the ledger of verdicts."""
