# SPDX-License-Identifier: Apache-2.0
"""Network namespaces as hosts: each has its own address, host name and /etc/hosts, on a switch that lives in a namespace
of its own. Needs root and iproute2. Everything is gone after close(), processes first."""
import os
import shutil
import signal
import subprocess
import time


class NetworkHosts:
    def __init__(self, prefix, count, subnet="10.93.7"):
        """Hosts `prefix`0 to `prefix`(count-1) with the addresses subnet.10, subnet.11, …"""
        self.prefix, self.count, self.subnet = prefix, count, subnet
        self.switch = prefix + "sw"

    def name(self, index):
        return f"{self.prefix}{index}"

    def address(self, index):
        return f"{self.subnet}.{10 + index}"

    def start(self):
        hosts = "127.0.0.1 localhost\n" + "".join(
            f"{self.address(index)} {self.name(index)}\n" for index in range(self.count))
        self._ip("netns", "add", self.switch)
        self._ip("-n", self.switch, "link", "add", "bridge0", "type", "bridge")
        self._ip("-n", self.switch, "link", "set", "bridge0", "up")
        for index in range(self.count):
            name = self.name(index)
            self._ip("netns", "add", name)
            os.makedirs(f"/etc/netns/{name}", exist_ok=True)
            with open(f"/etc/netns/{name}/hosts", "w") as file:
                file.write(hosts)
            self._ip("-n", self.switch, "link", "add", f"port{index}", "type", "veth", "peer", "name", "eth0", "netns",
                     name)
            self._ip("-n", self.switch, "link", "set", f"port{index}", "master", "bridge0", "up")
            self._ip("-n", name, "addr", "add", f"{self.address(index)}/24", "dev", "eth0")
            self._ip("-n", name, "link", "set", "eth0", "up")
            self._ip("-n", name, "link", "set", "lo", "up")

    def command(self, index, *arguments):
        """`arguments` as a command that runs on a host."""
        name = self.name(index)
        return ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', name, *arguments]

    def power_off(self, index):
        """The cable first, so that no connection is closed properly; then every process."""
        self._ip("-n", self.switch, "link", "set", f"port{index}", "down")
        self._kill(self.name(index))

    def close(self):
        for index in range(self.count):
            self._kill(self.name(index))
        for name in [*map(self.name, range(self.count)), self.switch]:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)
            shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)

    @staticmethod
    def _kill(name):
        for _ in range(50):  # a process may start another while we look
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            if not found:
                return
            for pid in found:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)

    @staticmethod
    def _ip(*arguments):
        subprocess.run(["ip", *arguments], check=True)
