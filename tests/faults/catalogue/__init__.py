"""The faults, one file per kind."""
