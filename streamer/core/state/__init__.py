"""The flow table, slot allocation, and checkpoint pages."""
