"""Files that are whole or not there: atomic writing, locks, saved states, the cache directory."""
