# SPDX-License-Identifier: Apache-2.0
"""Network namespaces as hosts on a private wire, and faults on that wire. Needs root."""
import os
import shutil
import subprocess
import sys
from pathlib import Path


def why_not():
    """Why there can be no namespaces here, or None."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    for tool in ("ip", "iptables", "ss", "tc"):
        if not shutil.which(tool):
            return f"needs the command {tool}"
    probe = subprocess.run(["ip", "netns", "add", f"chaos{os.getpid()}probe"], capture_output=True, text=True)
    if probe.returncode:
        return f"no network namespaces here: {probe.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"chaos{os.getpid()}probe"])
    return None


def sh(*words, check=True):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if check and result.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {result.stderr.strip()}")
    return result


class Hosts:
    """`count` hosts; host i is at address(i). With `seed` they hang on a relay that delays and spoils frames, otherwise
    on a bridge of the kernel's."""

    def __init__(self, world, count, seed=None):
        self.count = count
        self.prefix = f"chaos{os.getpid()}{'r' if seed is not None else 'b'}"
        self.switch = f"{self.prefix}sw"
        self.relay = None
        world.cleanups.append(self.remove)
        for index in range(count):
            sh("ip", "netns", "add", self.name(index))
        if seed is None:
            sh("ip", "netns", "add", self.switch)
            sh("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
            sh("ip", "-n", self.switch, "link", "set", "br0", "up")
            for index in range(count):
                sh("ip", "-n", self.switch, "link", "add", f"p{index}", "type", "veth", "peer", "name", "eth0", "netns",
                   self.name(index))
                sh("ip", "-n", self.switch, "link", "set", f"p{index}", "master", "br0", "up")
        else:
            self.relay = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "relay.py"), str(seed), *map(self.name, range(count))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if self.relay.stdout.readline().strip() != "ready":
                raise RuntimeError("the relay does not start: is there /dev/net/tun?")
        for index in range(count):
            sh("ip", "-n", self.name(index), "addr", "add", f"{self.address(index)}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                sh("ip", "-n", self.name(index), "link", "set", link, "up")

    def name(self, index):
        return f"{self.prefix}-{index}"

    def address(self, index):
        return f"10.123.0.{10 + index}"

    def place(self, index):
        return ("ip", "netns", "exec", self.name(index))

    def remove(self):
        if self.relay:
            self.relay.kill()
            self.relay.wait()
        for name in [*map(self.name, range(self.count)), self.switch]:
            sh("ip", "netns", "del", name, check=False)

    # Without a packet filter: one host has no way to another, in both directions.

    def part(self, a, b):
        for host, other in ((a, b), (b, a)):
            sh("ip", "-n", self.name(host), "route", "add", "blackhole", f"{self.address(other)}/32")

    def join(self, a, b):
        for host, other in ((a, b), (b, a)):
            sh("ip", "-n", self.name(host), "route", "del", "blackhole", f"{self.address(other)}/32")

    # Faults on the bridge

    def _drop(self, host, chain, side, other):
        sh(*self.place(host), "iptables", "-w", "-I", chain, side, self.address(other), "-j", "DROP")

    def silence_to(self, host, other):
        """Nothing that `host` sends reaches `other`."""
        self._drop(host, "OUTPUT", "-d", other)

    def silence_from(self, host, other):
        """Nothing that `other` sends reaches `host`."""
        self._drop(host, "INPUT", "-s", other)

    def cut(self, host, other):
        self.silence_to(host, other)
        self.silence_from(host, other)

    def isolate(self, host):
        """Pulls the cable: no FIN, no RST."""
        sh("ip", "-n", self.switch, "link", "set", f"p{host}", "down")

    def lose(self, host, percent):
        sh(*self.place(host), "iptables", "-w", "-I", "INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random",
           "--probability", percent / 100, "-j", "DROP")

    def throttle(self, host, kilobits):
        sh(*self.place(host), "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", f"{kilobits}kbit", "burst",
           "32kb", "latency", "400ms")

    def reset(self, host):
        """Aborts every connection of the host."""
        sh(*self.place(host), "ss", "-K", "dst", "10.123.0.0/24")

    def heal(self, host):
        sh(*self.place(host), "iptables", "-w", "-F")
        sh(*self.place(host), "tc", "qdisc", "del", "dev", "eth0", "root", check=False)
        sh("ip", "-n", self.switch, "link", "set", f"p{host}", "up")

    # Faults on the relay

    def order(self, **faults):
        """Sets delay and jitter in ms, loss, dup, corrupt and reorder in percent for all links; what is not named is off."""
        self.relay.stdin.write(" ".join(f"{name}={value}" for name, value in faults.items()) + "\n")
        self.relay.stdin.flush()
