"""What the reading of one pickle may take."""

from __future__ import annotations

MAX_STRUCTURE = 1024 * 1024
"""Bytes outside the contents of strings: 1500 extras have 20 kB; 1 MiB costs up to 0.2 s and 40 MB."""
MAX_CONTAINERS = 100_000
"""Containers, marks, globals, calls, moves on the stack: a byte of these costs up to 2 us and 250 bytes."""
MAX_DEPTH = 100
"""Marks open at once: what is under construction. Nothing bounds the depth of a finished value."""
MAX_DIGITS = 640
"""The most digits of an integer; a longer one becomes text. Conversion takes quadratic time, and Python may
refuse it."""
MAX_INTEGER_BITS = 2126
"""Every integer of this many bits can be printed: MAX_DIGITS is the least PYTHONINTMAXSTRDIGITS can be."""
