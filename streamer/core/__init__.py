"""The pure part of the program: it uses no clock, log, thread or unseeded random numbers."""
