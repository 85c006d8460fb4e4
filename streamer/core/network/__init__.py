"""The recurrent network: its configuration, cells, head and loss."""
