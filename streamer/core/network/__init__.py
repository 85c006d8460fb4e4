"""The LSTM: its configuration, its arithmetic, its loss and its checks."""
