"""What ends a wait for a descriptor early: a bell that any thread may ring.

::

    bell = Bell()
    bell.wait(connection.fileno())      # until there is something to read, or somebody rings
    bell.ring()                         # from another thread
"""

from __future__ import annotations

import os
from select import POLLIN, poll

__all__ = ["Bell"]


class Bell:
    """Two ends of a pipe. One thread waits; what was rung before it does is heard at once."""

    def __init__(self) -> None:
        self._ear, self._rope = os.pipe()
        os.set_blocking(self._ear, False)
        os.set_blocking(self._rope, False)

    def ring(self) -> None:
        """Never waits: a pipe that is full has been rung."""
        try:
            os.write(self._rope, b"!")
        except BlockingIOError:
            return

    def wait(self, descriptor: int) -> None:
        """Return when the descriptor has something to read, or when it was rung."""
        waiting = poll()
        waiting.register(descriptor, POLLIN)
        waiting.register(self._ear, POLLIN)
        if any(ready == self._ear for ready, _ in waiting.poll()):
            os.read(self._ear, 1 << 16)

    def close(self) -> None:
        """Give both ends back; nobody waits or rings any more. Calling it twice does no harm."""
        for end in (self._ear, self._rope):
            if end >= 0:
                os.close(end)
        self._ear = self._rope = -1
