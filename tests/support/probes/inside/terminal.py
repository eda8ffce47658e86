"""Put bytes into the input of a terminal, as if somebody had typed them: `python3 terminal.py FILE`.

Tried on every standard stream and on /dev/tty, in every way to make the call; what came of it goes to FILE as JSON.
"""

import ctypes
import json
import mmap
import os
import sys

import kernel

TIOCSTI = 0x5412
TYPED = "echo injected\n"


def by_call(fd: int, character: bytes) -> str:
    buffer = ctypes.create_string_buffer(character)
    return kernel.call("ioctl", str(fd), hex(TIOCSTI), str(ctypes.addressof(buffer)))


def with_garbage(fd: int, character: bytes) -> str:
    buffer = ctypes.create_string_buffer(character)
    return kernel.call("ioctl", str(fd), f"+{TIOCSTI:#x}", str(ctypes.addressof(buffer)))


def by_int_80(fd: int, character: bytes) -> str:
    kernel.LIBC.mmap.restype = ctypes.c_void_p
    low = kernel.LIBC.mmap(None, 4096, mmap.PROT_READ | mmap.PROT_WRITE, MAP_LOW, -1, 0)
    ctypes.memmove(low, character, 1)
    return kernel.through_int_80("ioctl", str(fd), hex(TIOCSTI), str(low))


MAP_LOW = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40  # MAP_32BIT: the way of 32-bit programs takes short addresses
WAYS = {"call": by_call, "garbage": with_garbage, "int 0x80": by_int_80}


def push(target: str, way: str) -> str:
    fd = os.open("/dev/tty", os.O_RDWR) if target == "tty" else int(target)
    for character in TYPED.encode():
        said = WAYS[way](fd, bytes([character]))
        if said != "returned 0":
            raise OSError(said)
    return "typed"


def attempt(target: str, way: str) -> str:
    """In a child: the last way may end in a signal."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = push(target, way)
        except (OSError, LookupError) as error:
            answer = str(error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        answer = stream.read()
    return answer or f"ended by signal {os.WTERMSIG(os.waitpid(pid, 0)[1])}"


if __name__ == "__main__":
    outcomes = {f"{target} {way}": attempt(target, way) for target in ("0", "1", "2", "tty") for way in WAYS}
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(outcomes, file)
