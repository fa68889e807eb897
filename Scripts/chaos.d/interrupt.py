# SPDX-License-Identifier: Apache-2.0
"""Cuts `apus run` off at ten moments of every kind of job, by Ctrl-C and by kill -9 of all its processes in turn, and
starts the same command again: it goes on, ends with 0, and what lies there is the quiet run's, byte for byte."""
import filecmp
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from world import wait_for

MOMENTS = 10
# What the clock decides: the times of a run, and what a pipeline writes down of its stages' seconds.
TIMED = {"timing.jsonl", "report.html", "report.json", "report.md"}

TRAIN = """kind: train
name: {name}
method: {method}
model: {{path: {model}, compute: fp32}}
data: {{path: {data}}}
steps: 6
rows_per_step: 4
seed: 5
optimizer: {{learning_rate: 1.0e-3, warmup_steps: 0}}
cell_tokens: 256
checkpoint: {{every: 2, keep: 1}}
resources: {{kv_cache_bytes: 16MiB, max_sequences: 16}}
output: {name}
"""
SAMPLING = """sampling: {temperature: 1.0, max_new_tokens: 24}
thinking: {mode: on}
"""
GROUPS = SAMPLING + """group_size: 4
reward: [thinking_mode]
"""
ROLLOUT = """kind: rollout
name: rollout
model: {path: cold-start/model, compute: fp32}
data: {path: few.jsonl}
resources: {kv_cache_bytes: 16MiB, max_sequences: 16}
output: rollout
""" + GROUPS
SCORE = """kind: score
name: score
model: {path: cold-start/model, compute: fp32}
data: {path: demonstrations.jsonl}
outputs: {top_k: 4}
resources: {kv_cache_bytes: 16MiB, max_sequences: 16}
output: score
"""
SUITE = """kind: suite
name: suite
output: suite
model: {path: cold-start/model, compute: fp32}
defaults: {samples: 2, format: mmlu, sampling: {max_new_tokens: 8}}
resources: {kv_cache_bytes: 16MiB, max_sequences: 16}
rows:
  - {name: generated, data: choices.jsonl, prompt: "{question} Answer:"}
  - {name: ranked, data: choices.jsonl, rank_choices: true}
"""
PIPELINE = """kind: pipeline
name: pipeline
output: pipeline
stages:
  - {name: rows, run: [data, registers, rows.jsonl, -n, "24", --seed, "4"]}
  - {name: measured, job: rollout.yaml, set: {data.path: "{rows}/rows.jsonl"}}
  - {name: training, job: grpo.yaml, set: {data.path: "{rows}/rows.jsonl", steps: "3"}}
  - {name: after, job: rollout.yaml, set: {data.path: "{rows}/rows.jsonl", model.path: "{training}/model"}}
"""


def make(world):
    """Job files and data beside those of the other parts; returns the directory."""
    world.make()
    directory = world.directory / "interrupt"
    directory.mkdir(exist_ok=True)
    for name in ("model", "cold-start"):
        if not (directory / name).exists():
            (directory / name).symlink_to(world.directory / name)
    jobs = {
        "sft": TRAIN.format(name="sft", method="sft", model="model", data="demonstrations.jsonl"),
        "grpo": TRAIN.format(name="grpo", method="grpo", model="cold-start/model", data="few.jsonl") + GROUPS,
        "distill": TRAIN.format(name="distill", method="distill", model="model", data="few.jsonl") + SAMPLING
        + "teacher: {path: cold-start/model, compute: fp32}\n",
        "reward": TRAIN.format(name="reward", method="reward", model="model", data="pairs.jsonl"),
        "rollout": ROLLOUT, "score": SCORE, "suite": SUITE, "pipeline": PIPELINE,
    }
    for name, text in jobs.items():
        (directory / f"{name}.yaml").write_text(text)
    run = lambda *words: world.apus(*words, cwd=directory)  # noqa: E731
    run("data", "registers", "few.jsonl", "-n", 60, "--seed", 6)
    run("data", "registers", "demonstrations.jsonl", "-n", 60, "--seed", 7, "--form", "demonstrations")
    questions = [{"id": f"q{i}", "question": f"What is {i}+1?", "choices": [str(i + 1), str(i + 2)], "answer": 0}
                 for i in range(12)]
    pairs = [{"prompt": f"What is {i}+1?", "chosen": f"It is {i + 1}.", "rejected": f"It is {i + 3}, or so."}
             for i in range(24)]
    for name, rows in (("choices", questions), ("pairs", pairs)):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory, list(jobs)


def descendants(pid):
    """The process and all that it has started, whatever their groups and sessions."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents.setdefault(int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]), []).append(
                    int(entry.name))
            except (OSError, IndexError):
                continue  # it has just ended
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def kill_tree(process):
    """kill -9 of everything at once: stopped first, so that nobody sees another one die."""
    known = []
    while known != (known := descendants(process.pid)):
        for pid in known:
            send(pid, signal.SIGSTOP)
    for pid in known:
        send(pid, signal.SIGKILL)
    process.wait()


def alive(directory):
    """Coordinators and workers of this part that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in words and b"--supervised" in words:
                found.append(int(entry.name))
    return found


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def start(world, directory, name):
    log = open(directory / f"{name}.log", "wb")
    with log:
        return subprocess.Popen(
            [world.apus_path, "run", f"{name}.yaml", "--workers", "2", "--threads", "1"], cwd=directory,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def remove(path):
    for left in (path, path.parent / f".{path.name}.cluster"):
        shutil.rmtree(left, ignore_errors=True)


def files(run):
    """Every file and link that is to be the same in every run."""
    return {str(path.relative_to(run)) for path in run.rglob("*")
            if (path.is_file() or path.is_symlink()) and path.name not in TIMED
            and path.parent.name != "stages"}


def difference(quiet, other):
    """What differs between two runs, or None."""
    a, b = files(quiet), files(other)
    if a != b:
        return f"{sorted(a ^ b)[0]} is in one of them only"
    for name in sorted(a):
        if (quiet / name).is_symlink():
            if os.readlink(quiet / name) != os.readlink(other / name):
                return f"{name} leads elsewhere"
        elif not filecmp.cmp(quiet / name, other / name, shallow=False):
            return f"{name} differs"
    return None


def run(world, figures, random, seconds):
    directory, names = make(world)
    for name in names:
        output, quiet = directory / name, directory / f"quiet-{name}"
        remove(output)
        shutil.rmtree(quiet, ignore_errors=True)
        begun = time.monotonic()
        if start(world, directory, name).wait(300):
            raise RuntimeError(f"the quiet {name}: {(directory / f'{name}.log').read_text()[-400:]}")
        length = time.monotonic() - begun
        output.rename(quiet)
        equal = went_on = late = 0
        trouble = []
        for moment in range(MOMENTS):
            remove(output)
            process = start(world, directory, name)
            try:
                # From the first files to the last ones.
                process.wait(max(0.02, length * (moment + random.random()) / MOMENTS))
                late += 1
            except subprocess.TimeoutExpired:
                if moment % 2:
                    kill_tree(process)
                else:
                    os.killpg(process.pid, signal.SIGINT)
                    code = process.wait(60)
                    if code not in (0, 130, -signal.SIGINT):
                        trouble.append(f"moment {moment}: Ctrl-C ended with {code}")
            again = start(world, directory, name)
            try:
                code = again.wait(300)
            except subprocess.TimeoutExpired:
                kill_tree(again)
                code = "no end in 300 s"
            said = (directory / f"{name}.log").read_text()
            went_on += "going on with job" in said or "done already" in said
            wrong = f"{code}: {said[-300:]}" if code else difference(quiet, output)
            if not wrong and (output.parent / f".{name}.cluster").exists():
                wrong = "the cluster's state is still there"
            if not wrong and not wait_for(lambda: not alive(directory), 10):
                wrong = f"still running: {alive(directory)}"
            if wrong:
                trouble.append(f"moment {moment} ({'kill -9' if moment % 2 else 'Ctrl-C'}): {wrong}")
            else:
                equal += 1
        for line in trouble:
            print(f"   {name}: {line}")
        figures.add(f"{name} ({length:.1f} s): cut off, started again, a quiet run's bytes", f"{MOMENTS} of {MOMENTS}",
                    f"{equal} of {MOMENTS} ({went_on} found their job or run, {late} had ended before)",
                    equal == MOMENTS and not trouble)
