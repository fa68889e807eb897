# SPDX-License-Identifier: Apache-2.0
"""Jobs of every kind on a dense model with a trunk larger than what two workers may have under way, on a mixture of
experts, and on another dense model; for the parts `phases` and `soak`."""
import shutil

from world import ROOT

TRAIN = """kind: train
name: {name}
method: sft
model: {{path: {model}, compute: fp32}}
data: {{path: demonstrations.jsonl}}
steps: {steps}
rows_per_step: 16
seed: 5
optimizer: {{learning_rate: 1.0e-3, warmup_steps: 0}}
cell_tokens: 128
checkpoint: {{every: 2}}
resources: {{kv_cache_bytes: 16MiB}}
output: {name}
"""

ROLLOUT = """kind: rollout
name: {name}
model: {{path: {model}, compute: fp32}}
data: {{path: few.jsonl}}
group_size: 4
seed: 3
sampling: {{temperature: 1.0, max_new_tokens: 40}}
reward: [exact]
resources: {{kv_cache_bytes: 16MiB, max_sequences: 16}}
output: {name}
"""

SCORE = """kind: score
name: score
model: {path: experts, compute: fp32}
data: {path: demonstrations.jsonl}
resources: {kv_cache_bytes: 16MiB, max_sequences: 16}
output: score
"""

# More than one window of 32 MiB between two workers.
WIDE_LAYERS = 128

JOBS = {
    "train-wide": TRAIN.format(name="train-wide", model="wide", steps=4),
    "train-experts": TRAIN.format(name="train-experts", model="experts", steps=4),
    "rollout-experts": ROLLOUT.format(name="rollout-experts", model="experts"),
    "rollout-dense": ROLLOUT.format(name="rollout-dense", model="dense"),
    "score": SCORE,
}


def make(world):
    """Models, data and job files; made once."""
    for name, text in JOBS.items():
        (world.directory / f"{name}.yaml").write_text(text)
    if (world.directory / "dense").exists():
        return
    tokenizer = ROOT / "Cluster" / "tiny-world" / "tokenizer"
    for name, preset, words in (("wide", "tiny-world-dense", ("--layers", WIDE_LAYERS)),
                                ("experts", "tiny-world-moe", ()), ("dense", "tiny-world-dense", ())):
        shutil.rmtree(world.directory / name, ignore_errors=True)
        world.apus("model", "init", name, "--preset", preset, *words, "--tokenizer", tokenizer, "--dtype", "fp32",
                   "--seed", 1)
    world.apus("data", "registers", "demonstrations.jsonl", "-n", 300, "--seed", 1, "--form", "demonstrations")
    world.apus("data", "registers", "few.jsonl", "-n", 40, "--seed", 2)


def bytes_of(world, model):
    return sum(path.stat().st_size for path in (world.directory / model).glob("*.safetensors"))
