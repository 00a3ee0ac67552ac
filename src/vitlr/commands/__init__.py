"""One file a command: parses its flags, calls the package, prints. Heavy imports happen inside functions."""
