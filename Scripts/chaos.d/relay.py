# SPDX-License-Identifier: Apache-2.0
"""A switch between namespaces in this process, for kernels without netem: every frame may be late, lost, doubled,
spoilt or out of order, by a seed. relay.py SEED NAMESPACE...; a line on stdin such as `delay=50 jitter=10 loss=1 dup=1
corrupt=1 reorder=1` sets milliseconds and percent for all links. Ends with its stdin."""
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI, CLONE_NEWNET = 0x400454CA, 0x0002, 0x1000, 0x40000000


def open_tap(libc, namespace):
    """The namespace's new eth0, as a file of whole frames."""
    with open(f"/run/netns/{namespace}") as place:
        if libc.setns(place.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"eth0", IFF_TAP | IFF_NO_PI))
    return tap


def main():
    chance = random.Random(int(sys.argv[1]))
    libc = ctypes.CDLL(None, use_errno=True)
    taps = [open_tap(libc, name) for name in sys.argv[2:]]
    print("ready", flush=True)
    faults = {}
    owners = {}  # hardware address to tap
    waiting = []  # (time, number, tap, frame)
    last_time = {}  # of a link: frames keep their order unless they are to lose it
    number = 0
    commands = sys.stdin.fileno()
    unread = b""
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, target, frame = heapq.heappop(waiting)
            try:
                os.write(target, frame)
            except OSError:
                pass  # the link is down or full: a lost frame
        pause = max(0.0, waiting[0][0] - now) if waiting else 1.0
        for ready in select.select([*taps, commands], [], [], pause)[0]:
            if ready == commands:
                data = os.read(commands, 4096)
                if not data:
                    return
                unread += data
                while b"\n" in unread:
                    line, unread = unread.split(b"\n", 1)
                    faults = {key: float(value) for key, value in (word.split("=") for word in line.decode().split())}
                continue
            for _ in range(32):
                try:
                    frame = os.read(ready, 65600)
                except BlockingIOError:
                    break
                except OSError:
                    break
                owners[frame[6:12]] = ready
                target = owners.get(frame[:6])
                for other in [target] if target is not None and target != ready else [t for t in taps if t != ready]:
                    if not faults:
                        heapq.heappush(waiting, (0.0, number, other, frame))
                        number += 1
                        continue
                    if chance.random() * 100 < faults.get("loss", 0):
                        continue
                    for _ in range(2 if chance.random() * 100 < faults.get("dup", 0) else 1):
                        sent = frame
                        if chance.random() * 100 < faults.get("corrupt", 0) and len(frame) > 14:
                            spoilt = bytearray(frame)
                            spoilt[chance.randrange(14, len(spoilt))] ^= 1 << chance.randrange(8)
                            sent = bytes(spoilt)
                        at = time.monotonic() + (faults.get("delay", 0) + chance.random() * faults.get("jitter", 0)) / 1e3
                        if chance.random() * 100 >= faults.get("reorder", 0):
                            at = max(at, last_time.get((ready, other), 0.0))
                            last_time[(ready, other)] = at
                        heapq.heappush(waiting, (at, number, other, sent))
                        number += 1


if __name__ == "__main__":
    main()
