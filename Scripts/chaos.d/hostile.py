# SPDX-License-Identifier: Apache-2.0
"""Peers without a key, with a wrong one, with garbage, with frames of 4 GiB, and 900 idle connections, against the ports
of a coordinator and of a worker: neither grows by more than 1 MiB per peer, a real worker joins meanwhile, and the job
that runs under all of it gives a quiet run's bytes."""
import re
import signal
import socket
import struct
import subprocess
import time

from figures import percentile
from world import same_run

IDLE = 900
JOINS = 7
MIB = 1 << 20
SETTINGS = ("steps=24", "checkpoint.every=8")


# ZMTP 3.1: signature, version, mechanism, as-server, filler.
def greeting(mechanism):
    return b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism.ljust(20, b"\0") + bytes(32)


def run(world, figures, random, seconds):
    world.make()
    quiet = world.cluster("hostile-quiet", 2).start()
    status, problem = quiet.finish(quiet.submit("grpo", "hostile-quiet", *SETTINGS), 240)
    if status != "done":
        raise RuntimeError(f"the quiet job: {status}, {problem}")
    quiet.kill_all()

    ports = free_ports(6)
    cluster = world.cluster("hostile", 2, keys=3)
    cluster.arguments = {0: ["--ports", ",".join(map(str, ports[:3]))], 1: ["--ports", ",".join(map(str, ports[3:]))]}
    cluster.start()
    cluster.rest(30, lambda: len([line for _, line in cluster.events if " joined with " in line]) == 2)
    cluster.rest(1)
    victims = {"coordinator": (0, ports[:3]), "worker": (1, ports[3:])}
    # Measured before there is work, whose memory would be counted too; then again beside a job.
    for attack, count, strike in ATTACKS:
        for name, (index, targets) in victims.items():
            reset_peak(cluster.pid(index))
            before = resident(cluster.pid(index))
            for peer in range(count):
                strike(targets[peer % 3], random)
            cluster.rest(0.3)
            growth = (peak(cluster.pid(index)) - before) / count
            figures.add(f"{attack}, {count} peers: growth of the {name}", "<= 1 MiB per peer",
                        f"{growth / MIB:.3f} MiB per peer", growth <= MIB)
    idle(cluster, victims, figures, random)
    number = cluster.submit("grpo", "hostile", *SETTINGS)
    cluster.rest(60, lambda: cluster.seen("training epoch"))
    for attack, count, strike in ATTACKS:
        for peer in range(count):
            for _, targets in victims.values():
                strike(targets[peer % 3], random)
            cluster.tend()
    wrong_key(world, cluster, figures)
    status, problem = cluster.finish(number, 240)
    restarts = sum(cluster.restarts.values())
    cluster.kill_all()
    different = f"{status}: {problem}" if status != "done" else same_run(
        world.directory / "hostile-quiet", world.directory / "hostile")
    figures.add("processes that died of it", 0, restarts, restarts == 0)
    figures.add("the job beside it", "a quiet run's bytes", different or "equal", different is None)


def wrong_key(world, cluster, figures):
    """A worker with a key that nobody knows stays outside and says what to do."""
    stranger = cluster.directory / "stranger.key"
    world.apus("keys", "generate", stranger)
    log = cluster.directory / "stranger.log"
    with open(log, "wb") as file:
        child = subprocess.Popen(
            [world.apus_path, "worker", "--join", cluster.join, "--keys", stranger, "--threads", "1", "--memory", "1GiB",
             "--supervised"], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    world.cleanups.append(child.kill)
    before = len([line for _, line in cluster.events if " joined with " in line])
    told = cluster.rest(20, lambda: "allow-list" in log.read_text(errors="replace"))
    cluster.rest(2)
    child.kill()
    child.wait()
    after = len([line for _, line in cluster.events if " joined with " in line])
    figures.add("a worker with an unknown key", "refused, and told why",
                "refused, and told why" if told and after == before else "not told" if after == before else "let in",
                bool(told) and after == before)


def idle(cluster, victims, figures, random):
    """900 connections that say nothing, half of them after a greeting; then a real worker comes."""
    for name, (index, targets) in victims.items():
        reset_peak(cluster.pid(index))
        before = resident(cluster.pid(index))
        open_sockets = []
        for peer in range(IDLE):
            connection = dial(targets[peer % 3])
            if connection is None:
                continue
            if peer % 2:
                send(connection, greeting(b"CURVE"))
            open_sockets.append(connection)
            if peer % 100 == 0:
                cluster.tend()
        cluster.rest(0.2)
        growth = (peak(cluster.pid(index)) - before) / IDLE
        figures.add(f"{len(open_sockets)} idle connections: growth of the {name}", "<= 1 MiB per peer",
                    f"{growth / MIB:.3f} MiB per peer", growth <= MIB and len(open_sockets) == IDLE)
        if name == "coordinator":
            join(cluster, figures)
        closed = cluster.rest(15, lambda: all(is_closed(connection) for connection in random.sample(open_sockets, 20)))
        figures.add(f"idle connections that the {name} closes", "all within 15 s", "all" if closed else "not all", closed)
        for connection in open_sockets:
            connection.close()


def join(cluster, figures):
    """A worker that comes again and again: from its dialling until the coordinator counts it in."""
    log = cluster.log_path(3)
    times = []
    for turn in range(JOINS):
        started = time.monotonic()
        log.unlink(missing_ok=True)
        cluster.start_process(3)
        dialled = None
        while time.monotonic() - started < 20 and not cluster.seen(r"joined with", started):
            if dialled is None and log.exists() and "dialling" in log.read_text(errors="replace"):
                dialled = time.monotonic()
            cluster.look()
            time.sleep(0.002)
        found = cluster.seen(r"joined with", started)
        if found:
            times.append(max(0.0, found[0] - (dialled or found[0])))
        cluster.signal(3, signal.SIGTERM)
        cluster.children.pop(3).wait()
    median = percentile(times, 0.5)
    figures.add("a real worker joins beside 900 idle ones", "< 100 ms after it dials",
                f"{median * 1000:.0f} ms, the median of {len(times)} of {JOINS}", len(times) == JOINS and median < 0.1)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def dial(port):
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=5)
    except OSError:
        return None


def send(connection, data):
    try:
        connection.sendall(data)
        return True
    except OSError:
        return False


def is_closed(connection):
    connection.setblocking(False)
    try:
        while True:
            if not connection.recv(4096):
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True


# Each is one peer that does its worst and goes.

def no_key(port, random):
    connection = dial(port)
    if connection:
        send(connection, greeting(b"NULL") + b"\x04\x19\x05READY" + bytes(20))
        connection.close()


def garbage(port, random):
    connection = dial(port)
    if connection:
        if random.random() < 0.3:
            send(connection, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        send(connection, random.randbytes(random.choice((1, 64, 4096, 1 << 18))))
        connection.close()


def giant_frame(port, random, mechanism=b"NULL", start=b""):
    """A frame that says it has 4 GiB, of which 64 MiB are really sent if nobody stops it."""
    connection = dial(port)
    if not connection:
        return
    connection.settimeout(2)
    flags = random.choice((0x06, 0x02))  # a long command or message
    send(connection, greeting(mechanism) + start + bytes([flags]) + struct.pack(">Q", 4 << 30))
    for _ in range(64):
        if not send(connection, bytes(MIB)):
            break
    connection.close()


def giant_curve_frame(port, random):
    """The same where a CURVE client would say hello."""
    giant_frame(port, random, b"CURVE", b"" if random.random() < 0.5 else b"\x04\xc8\x05HELLO\x01\x00" + bytes(192))


ATTACKS = (("no key", 60, no_key), ("garbage", 60, garbage), ("frames of 4 GiB", 12, giant_frame),
           ("frames of 4 GiB under CURVE", 12, giant_curve_frame))


# Memory of a process, in bytes.

def memory(pid, field):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(rf"{field}:\s+(\d+) kB", status.read()).group(1)) << 10


def resident(pid):
    return memory(pid, "VmRSS")


def peak(pid):
    return memory(pid, "VmHWM")


def reset_peak(pid):
    try:
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # then an earlier peak counts too
