"""The pure part: no clock, no log, no thread, no chance that was not handed in."""
