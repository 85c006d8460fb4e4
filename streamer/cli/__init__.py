"""One file a command; each imports what it needs when it is called, so that help comes at once."""
