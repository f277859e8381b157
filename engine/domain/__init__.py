"""The words of the domain as plain values: nothing here reads a clock, a file or a socket."""
