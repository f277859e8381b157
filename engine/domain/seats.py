"""The packed layout of a session's seats: one bit is one seat, 1 = free.

A slot is ``width`` bytes, a session is its slots one after the other. Seat ``n`` of a slot is bit
``n % 8`` of byte ``n // 8``. A missing or short string therefore sells nothing, and adding lines
(a larger width) never renumbers a seat. ``engine/inventory/scripts/seats.lua`` reads the same layout.
"""

from collections.abc import Iterator

SEATS_PER_BYTE = 8


def width_of(lines: int) -> int:
    """Bytes that one slot of ``lines`` seats takes."""
    return -(-lines // SEATS_PER_BYTE)


def all_free(slots: int, lines: int) -> bytearray:
    """Mask of a session in which every seat is free."""
    return bytearray(((1 << lines) - 1).to_bytes(width_of(lines), "little") * slots)


def none_free(slots: int, lines: int) -> bytearray:
    """Mask of a session in which no seat is free."""
    return bytearray(slots * width_of(lines))


def is_free(mask: bytes | bytearray, width: int, slot: int, seat: int) -> bool:
    """Whether the seat's bit is 1."""
    return bool(mask[slot * width + seat // SEATS_PER_BYTE] >> seat % SEATS_PER_BYTE & 1)


def set_free(mask: bytearray, width: int, slot: int, seat: int) -> None:
    """Set the seat's bit to 1, in place. Setting it twice is the same as once."""
    mask[slot * width + seat // SEATS_PER_BYTE] |= 1 << seat % SEATS_PER_BYTE


def set_taken(mask: bytearray, width: int, slot: int, seat: int) -> None:
    """Set the seat's bit to 0, in place. Setting it twice is the same as once."""
    mask[slot * width + seat // SEATS_PER_BYTE] &= ~(1 << seat % SEATS_PER_BYTE) & 0xFF


def count_free(mask: bytes | bytearray) -> int:
    """How many seats of the session are free."""
    return int.from_bytes(mask, "little").bit_count()


def free_in_slot(mask: bytes | bytearray, width: int, slot: int) -> int:
    """How many seats of one slot are free."""
    return int.from_bytes(mask[slot * width : (slot + 1) * width], "little").bit_count()


def free_slots(mask: bytes | bytearray, width: int) -> Iterator[int]:
    """Numbers of the slots in which a seat is free, ascending."""
    empty = bytes(width)
    return (slot for slot in range(len(mask) // width) if mask[slot * width : (slot + 1) * width] != empty)
