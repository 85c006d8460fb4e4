"""Text for people: numbers, durations, and safe display of foreign text."""
