# SPDX-License-Identifier: Apache-2.0
"""The tiny world that is broken: a model, data, jobs, and clusters of real processes."""
import filecmp
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

GRPO = """kind: train
name: grpo
method: grpo
model: {path: cold-start/model, compute: fp32}
data: {path: prompts.jsonl}
steps: 8
rows_per_step: 8
group_size: 4
seed: 2
sampling: {temperature: 1.0, max_new_tokens: 40}
thinking: {mode: on}
reward: [thinking_mode]
advantage: verl
loss: {preset: dapo}
optimizer: {learning_rate: 1.0e-3, warmup_steps: 0}
cell_tokens: 256
checkpoint: {every: 1}
resources: {kv_cache_bytes: 16MiB, max_sequences: 32}
output: grpo
"""

DISTILL = """kind: train
name: distill
method: distill
model: {path: model, compute: fp32}
teacher: {path: cold-start/model, compute: fp32, divergence: mix}
data: {path: prompts.jsonl}
steps: 8
rows_per_step: 8
seed: 4
sampling: {temperature: 1.0, max_new_tokens: 40}
thinking: {mode: on}
optimizer: {learning_rate: 1.0e-3, warmup_steps: 0}
cell_tokens: 256
checkpoint: {every: 1}
resources: {kv_cache_bytes: 16MiB, max_sequences: 32}
output: distill
"""

ROLLOUT = """kind: rollout
name: rollout
model: {path: cold-start/model, compute: fp32}
data: {path: many.jsonl}
group_size: 4
seed: 3
sampling: {temperature: 1.0, max_new_tokens: 40}
thinking: {mode: on}
reward: [thinking_mode]
resources: {kv_cache_bytes: 16MiB, max_sequences: 16}
output: rollout
"""


def wait_for(condition, seconds, step=0.05):
    """What `condition` gives once it is true, or None after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found or time.monotonic() > deadline:
            return found or None
        time.sleep(step)


class World:
    """The directory, the program, and everything that was started, so that all of it ends."""

    def __init__(self, directory):
        self.directory = directory
        self.apus_path = os.environ["APUS"]
        self.cleanups = []
        self.clusters = []
        self._isMade = False

    def apus(self, *arguments, check=True, prefix=(), timeout=120, cwd=None):
        """Runs a command to its end; its result has returncode, stdout, stderr."""
        result = subprocess.run(
            [*prefix, self.apus_path, *map(str, arguments)], cwd=cwd or self.directory, capture_output=True, text=True,
            timeout=timeout, stdin=subprocess.DEVNULL)
        if check and result.returncode != 0:
            raise RuntimeError(f"apus {' '.join(map(str, arguments))}: {result.stderr.strip() or result.stdout.strip()}")
        return result

    def make(self):
        """The model after a short cold start, data and job files; made once."""
        if self._isMade:
            return
        self._isMade = True
        tiny = ROOT / "Cluster" / "tiny-world"
        for name, text in (("grpo", GRPO), ("distill", DISTILL), ("rollout", ROLLOUT)):
            (self.directory / f"{name}.yaml").write_text(text)
        if (self.directory / "cold-start" / "model").exists():
            return
        self.apus("model", "init", "model", "--preset", "tiny-world-moe", "--tokenizer", tiny / "tokenizer", "--dtype",
                  "fp32", "--seed", 1)
        self.apus("data", "registers", "cold-start.jsonl", "-n", 1000, "--seed", 1, "--form", "demonstrations",
                  "--under-thinking", 0.8)
        self.apus("data", "registers", "prompts.jsonl", "-n", 400, "--seed", 2)
        self.apus("data", "registers", "many.jsonl", "-n", 20000, "--seed", 3)
        shutil.copy(tiny / "cold-start.yaml", self.directory)
        self.apus("run", "cold-start.yaml", "--workers", 2, "--threads", 1, "--set", "steps=40", "--set",
                  "rows_per_step=16", "--set", "checkpoint.every=40", timeout=300)

    def cluster(self, name, workers, **keywords):
        cluster = Cluster(self, name, workers, **keywords)
        self.clusters.append(cluster)
        return cluster

    def end_everything(self):
        """Ends what a part left behind."""
        for cluster in self.clusters:
            cluster.kill_all()
        self.clusters = []
        while self.cleanups:
            self.cleanups.pop()()

    close = end_everything


class Cluster:
    """One coordinator and its workers as children of this process; `tend` starts again what has died.

    place(index) gives the words before a command: of the coordinator (0) and of each worker (1...).
    """

    def __init__(self, world, name, workers, place=lambda index: (), listen=lambda index: "127.0.0.1", expect=None,
                 state=None, keys=None):
        self.world = world
        self.directory = world.directory / f"{name}.cluster"
        shutil.rmtree(self.directory, ignore_errors=True)
        self.state = state or self.directory / "coordinator"
        self.directory.mkdir(parents=True)
        self.place = place
        self.listen = listen
        self.children = {}
        self.environments = {}
        self.arguments = {}
        self.restarts = {}
        self.events = []
        self._read = {}
        self.join = self.state / "coordinator.json"
        self.expect = expect or workers
        roles = [("coordinator", None), ("client", "admin")] + [(f"worker-{i}", "worker") for i in
                                                                range(1, (keys or workers) + 1)]
        lines = []
        for key, role in roles:
            public = world.apus("keys", "generate", self.directory / f"{key}.key").stdout.strip()
            if role:
                lines.append(f"{public} {role}\n")
        allow = self.directory / "allow"
        allow.touch(0o600)
        allow.write_text("".join(lines))
        (self.directory / "context.json").write_text(
            json.dumps({"address": str(self.join), "key": str(self.directory / "client.key")}))
        self.wanted = set(range(workers + 1))

    # Processes: index 0 is the coordinator.

    def command(self, index):
        if index == 0:
            words = ["coordinator", "--state", self.state, "--keys", self.directory / "coordinator.key", "--allow",
                     self.directory / "allow", "--workers", self.expect]
        else:
            words = ["worker", "--join", self.join, "--keys", self.directory / f"worker-{index}.key", "--threads", 1,
                     "--memory", "1GiB"]
        words += ["--listen", self.listen(index), "--supervised", *self.arguments.get(index, ())]
        return [*self.place(index), self.world.apus_path, *map(str, words)]

    def log_path(self, index):
        return self.directory / ("coordinator.log" if index == 0 else f"worker-{index}.log")

    def start_process(self, index):
        with open(self.log_path(index), "ab") as log:
            self.children[index] = subprocess.Popen(
                self.command(index), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.world.directory,
                env={**os.environ, **self.environments.get(index, {})}, start_new_session=True)
        return self.children[index]

    def start(self):
        """Starts everything that is wanted; returns when the coordinator listens."""
        self.start_process(0)
        if not wait_for(lambda: self.join.exists() or self.children[0].poll() is not None, 20) or \
                self.children[0].poll() is not None:
            raise RuntimeError(f"the coordinator does not come up: {self.log_path(0).read_text()[-400:]}")
        for index in sorted(self.wanted - {0}):
            self.start_process(index)
        return self

    def tend(self):
        """Starts again what is wanted and dead, and reads the logs. Call it often."""
        for index, child in list(self.children.items()):
            if child.poll() is not None and index in self.wanted:
                self.restarts[index] = self.restarts.get(index, 0) + 1
                self.start_process(index)
        self.look()

    def rest(self, seconds, until=lambda: False):
        """Tends for `seconds`, or until something is so; returns whether it is."""
        deadline = time.monotonic() + seconds
        while True:
            self.tend()
            if until():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)

    def signal(self, index, number):
        try:
            self.children[index].send_signal(number)
        except ProcessLookupError:
            pass

    def kill_all(self):
        self.wanted = set()
        for child in self.children.values():
            if child.poll() is None:
                for number in (signal.SIGCONT, signal.SIGKILL):
                    try:
                        child.send_signal(number)
                    except ProcessLookupError:
                        pass
        for child in self.children.values():
            child.wait()

    def pid(self, index):
        return self.children[index].pid

    # What can be seen

    def look(self):
        """New lines of the coordinator's log, each with the time at which it was seen."""
        path = self.log_path(0)
        if not path.exists():
            return
        with open(path, "rb") as log:
            log.seek(self._read.get(0, 0))
            data = log.read()
        end = data.rfind(b"\n") + 1
        self._read[0] = self._read.get(0, 0) + end
        now = time.monotonic()
        self.events += [(now, line) for line in data[:end].decode(errors="replace").splitlines()]

    def seen(self, pattern, since=0.0):
        """The first (time, match) of a log line since then."""
        for at, line in self.events:
            if at >= since:
                found = re.search(pattern, line)
                if found:
                    return at, found
        return None

    def journal(self):
        """A connection to the journal that only reads."""
        return Journal(self.state / "journal.sqlite")

    def client(self, *arguments, check=True):
        verb, *rest = arguments
        return self.world.apus(
            verb, *rest, "--context", self.directory / "context.json", check=check, prefix=self.place(0))

    def submit(self, job, output, *settings):
        words = [word for setting in (f"output={output}", *settings) for word in ("--set", setting)]
        shutil.rmtree(self.world.directory / output, ignore_errors=True)
        text = self.client("submit", f"{job}.yaml", *words).stdout
        return int(re.search(r"job (\d+)", text).group(1))

    def job(self, number):
        """The job as the coordinator tells it, or None when it does not answer just now."""
        result = self.client("job", str(number), "--json", check=False)
        return json.loads(result.stdout)[0] if result.returncode == 0 else None

    def workers(self):
        result = self.client("workers", "--json", check=False)
        return json.loads(result.stdout) if result.returncode == 0 else []

    def finish(self, number, seconds):
        """Tends until a job ends. Returns its status and problem."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.rest(0.5)
            view = self.job(number)
            if view and view.get("status") in ("done", "failed", "cancelled"):
                return view["status"], view.get("problem", "")
        return "no end", f"{seconds} s have passed; waits for {(self.job(number) or {}).get('waiting_for', '?')}"


class Journal:
    """Reads what is durable while the coordinator works."""

    KINDS = {0x0A: "epoch", 0x12: "admitted", 0x1A: "recorded", 0x22: "group failed", 0x2A: "ended", 0x32: "model",
             0x3A: "prepared", 0x42: "committed", 0x4A: "snapshot", 0x52: "scaled", 0x5A: "drain"}

    def __init__(self, path):
        self._path = path
        self._last = 0
        self._connection = None
        self.counts = {}
        self.lastCommitted = 0

    def news(self):
        """Counts entries that came since the last call, by kind; returns how many of each."""
        new = {}
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=1)
            rows = self._connection.execute("SELECT id, content FROM entry WHERE id > ? ORDER BY id", (self._last,))
            for number, content in rows:
                self._last = number
                kind = self.KINDS.get(content[0], "?")
                new[kind] = new.get(kind, 0) + 1
        except sqlite3.Error:
            self.close()  # it is being opened or made just now
        for kind, count in new.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
        return new

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def same_run(quiet, other, names=("metrics.jsonl", "rollouts", "checkpoints")):
    """The first file of a quiet run that another run lacks or has otherwise; None when all are equal byte for byte."""
    for name in names:
        base = quiet / name
        if base.is_file():
            files = [Path(name)]
        else:
            files = sorted(path.relative_to(quiet) for path in base.rglob("*") if path.is_file())
        if not files:
            return f"{base} is empty"
        for file in files:
            if not (other / file).exists():
                return f"{file} is missing"
            if file.name == "manifest.json":
                # It names the job, and the job its own output.
                equal = without_job(quiet / file) == without_job(other / file)
            else:
                equal = filecmp.cmp(quiet / file, other / file, shallow=False)
            if not equal:
                return f"{file} differs"
    return None


def without_job(manifest):
    content = json.loads(manifest.read_text())
    content.pop("job")
    return content
