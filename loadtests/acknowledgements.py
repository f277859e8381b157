"""placeholder"""

import json, os, time
from pathlib import Path


class Acknowledgements:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def booked(self, booking, location, appointments):
        self._write(
            {
                "op": "book",
                "booking": booking,
                "location": location,
                "appointments": appointments,
                "at": int(time.time() * 1000),
            }
        )

    def cancelled(self, booking):
        self._write({"op": "cancel", "booking": booking, "at": int(time.time() * 1000)})

    def _write(self, line):
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def close(self):
        os.close(self._file)
