"""The campaign's rules as pure functions of their arguments: no clock, no network, no database."""
