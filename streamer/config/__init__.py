"""Settings: their types, where they come from, and the messages about wrong ones."""
