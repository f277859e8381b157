"""Booking, cancelling and reading courses: the protocol as steps, see PROTOCOL.md."""
