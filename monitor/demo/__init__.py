"""A trial run of the whole daemon on one machine, with stand-ins for everything outside it."""
