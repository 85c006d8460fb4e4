"""Delivery of alerts: the table of those that fire, and a thread for each receiver."""
