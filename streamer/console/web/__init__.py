"""The console over HTTP; needs the extra `console`."""
