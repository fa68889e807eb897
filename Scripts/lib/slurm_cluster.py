# SPDX-License-Identifier: Apache-2.0
"""A real Slurm from Debian's packages on network hosts, without systemd: host 0 is controller and login node, the others
are nodes of two processors each."""
import os
import subprocess
import time

CONFIGURATION = """\
ClusterName=apus
SlurmctldHost={controller}({controller_address})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.%n.log
# No systemd and no writable cgroup tree: processes are known by their parents.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
# Tasks go to the least loaded node, so that workers spread out.
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory,CR_LLN
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
# A node is DOWN when it has not answered for this many seconds.
SlurmdTimeout=10
SlurmctldTimeout=10
BatchStartTimeout=10
MessageTimeout=5
TCPTimeout=2
KillWait=30
JobRequeue=1
ReturnToService=2
RequeueExit=75
# More processors than the machine has.
SlurmdParameters=config_overrides
DefMemPerCPU=500
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    def __init__(self, hosts, directory):
        self.hosts, self.directory = hosts, directory
        self.munge = None
        self.configuration = f"{directory}/slurm.conf"

    def start(self):
        hosts, directory = self.hosts, self.directory
        os.makedirs(f"{directory}/state")
        text = CONFIGURATION.format(
            directory=directory, controller=hosts.name(0), controller_address=hosts.address(0))
        for index in range(1, hosts.count):
            os.makedirs(f"{directory}/spool/{hosts.name(index)}")
            text += (f"NodeName={hosts.name(index)} NodeAddr={hosts.address(index)} CPUs=2 Boards=1 SocketsPerBoard=1 "
                     "CoresPerSocket=2 ThreadsPerCore=1 RealMemory=8000 State=UNKNOWN\n")
        self._write("slurm.conf", text)
        self._write("cgroup.conf", "CgroupPlugin=cgroup/v1\n")  # `ip netns exec` hides the unified tree
        with open(os.open(f"{directory}/munge.key", os.O_CREAT | os.O_WRONLY, 0o400), "wb") as file:
            file.write(os.urandom(1024))
        self.munge = self._spawn(
            "munged", ["munged", "--foreground", *(f"--{what}-file={directory}/munge.{what}" for what in
                                                    ("key", "pid", "log", "seed")), f"--socket={directory}/munge.socket"])
        self._wait("munged", lambda: os.path.exists(f"{directory}/munge.socket"))
        self._spawn("slurmctld", hosts.command(0, "slurmctld", "-D", "-f", self.configuration))
        for index in range(1, hosts.count):
            self._spawn(
                f"slurmd-{index}", hosts.command(
                    index, "slurmd", "-D", "-f", self.configuration, "-N", hosts.name(index)))
        self._wait("the nodes", lambda: len(self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())
                   == hosts.count - 1)

    def run(self, *arguments, environment={}):
        """A client command on the login node; returns what it printed."""
        result = subprocess.run(
            self.hosts.command(0, *arguments), capture_output=True, text=True,
            env={**os.environ, "SLURM_CONF": self.configuration, **environment})
        if result.returncode != 0 and arguments[0] == "sbatch":
            raise SystemExit(f"slurm-demo: {' '.join(arguments)}: {result.stderr.strip()}")
        return result.stdout.strip()

    def close(self):
        """The daemons in the hosts end with them."""
        if self.munge:
            self.munge.kill()
            self.munge.wait()

    def _write(self, name, text):
        with open(f"{self.directory}/{name}", "w") as file:
            file.write(text)

    def _spawn(self, name, command):
        with open(f"{self.directory}/{name}.out", "w") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, "SLURM_CONF": self.configuration})

    def _wait(self, what, condition):
        deadline = time.monotonic() + 30
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"slurm-demo: {what} did not come up; see {self.directory}")
            time.sleep(0.1)
