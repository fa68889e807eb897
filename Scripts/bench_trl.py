# SPDX-License-Identifier: Apache-2.0
"""What Scripts/bench-trl runs: `make` writes random checkpoints, prompts and our jobs; `run` and `distill` time TRL's
GRPO and on-policy distillation steps."""
import json
import random
import shutil
import sys
import time
from pathlib import Path

PROMPTS, GROUP, NEW_TOKENS, PROMPT_WORDS = 8, 8, 128, 40


def make(kind: str, tokenizer: Path, root: Path) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(0)
    common = dict(vocab_size=4096, max_position_embeddings=1024, rope_theta=1e4, rms_norm_eps=1e-6, eos_token_id=3002)
    if kind == "moe":
        config = Qwen3MoeConfig(
            hidden_size=256, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4, head_dim=32,
            intermediate_size=512, num_experts=16, num_experts_per_tok=4, moe_intermediate_size=128,
            norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], tie_word_embeddings=False,
            router_aux_loss_coef=0.0, **common)
        model = Qwen3MoeForCausalLM(config)
    else:
        config = Qwen3Config(
            hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4, head_dim=64,
            intermediate_size=1536, tie_word_embeddings=True, **common)
        model = Qwen3ForCausalLM(config)
    for target in [root / kind, root / f"{kind}-teacher"]:
        model.to(torch.float32).save_pretrained(target)
        for name in ["tokenizer.json", "tokenizer_config.json"]:
            shutil.copy(tokenizer / name, target / name)
        torch.manual_seed(1)
        model.apply(model._init_weights)
    rng = random.Random(1)
    words = ["one", "two", "river", "stone", "light", "music", "paper", "green", "seven", "over"]
    rows = [{"id": f"p{i}", "prompt": " ".join(rng.choice(words) for _ in range(PROMPT_WORDS)), "answer": "7"}
            for i in range(PROMPTS)]
    (root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / f"{kind}.yaml").write_text(
        f"""kind: train
name: {kind}
method: grpo
model: {{path: {kind}, compute: fp32}}
data: {{path: prompts.jsonl}}
steps: 2
rows_per_step: {PROMPTS}
group_size: {GROUP}
sampling: {{temperature: 1.0, max_new_tokens: {NEW_TOKENS}}}
reward: [exact]
dropped_groups: {{policy: keep, truncated: keep}}
optimizer: {{learning_rate: 1.0e-6}}
cell_tokens: 1024
checkpoint: {{every: 1000000}}
resources: {{kv_cache_bytes: 512MiB, max_sequences: 64}}
output: out
""")


    grpo = (root / f"{kind}.yaml").read_text()
    distill = grpo.replace("method: grpo", "method: distill").replace("reward: [exact]\n", "").replace(
        "optimizer:", f"teacher: {{path: {kind}-teacher, compute: fp32, divergence: reverse}}\noptimizer:")
    (root / f"{kind}-distill.yaml").write_text(distill.replace(f"name: {kind}", f"name: {kind}-distill"))


def distill(kind: str, compute: str, threads: int, root: Path) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DistillationConfig, DistillationTrainer

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if compute == "bf16" else torch.float32
    model, teacher = [AutoModelForCausalLM.from_pretrained(root / name, dtype=dtype) for name in [kind, f"{kind}-teacher"]]
    tokenizer = AutoTokenizer.from_pretrained(root / kind, padding_side="left")
    rows = [json.loads(line) for line in (root / "prompts.jsonl").read_text().splitlines()]
    times = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(time.perf_counter())

    arguments = DistillationConfig(
        output_dir=str(root / "trl"), per_device_train_batch_size=PROMPTS * GROUP, max_completion_length=NEW_TOKENS,
        max_steps=4, learning_rate=1e-6, logging_steps=1000, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
        gradient_checkpointing=False, temperature=1.0, beta=1.0, generation_kwargs={"min_new_tokens": NEW_TOKENS})
    trainer = DistillationTrainer(
        model=model, teacher_model=teacher, args=arguments, processing_class=tokenizer, callbacks=[Clock()],
        train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in rows for _ in range(GROUP)]))
    trainer.train()
    steps = sorted(b - a for a, b in zip(times, times[1:]))
    print(round(steps[len(steps) // 2], 3))


def run(kind: str, compute: str, threads: int, root: Path) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(root / kind, dtype=torch.bfloat16 if compute == "bf16" else torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(root / kind, padding_side="left")
    rows = [json.loads(line) for line in (root / "prompts.jsonl").read_text().splitlines()]
    times = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            pass

        def on_step_end(self, *_, **__):
            times.append(time.perf_counter())

    arguments = GRPOConfig(
        output_dir=str(root / "trl"), per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP,
        max_completion_length=NEW_TOKENS, max_steps=4, learning_rate=1e-6, logging_steps=1000, save_strategy="no",
        report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, temperature=1.0, beta=0.0,
        generation_kwargs={"min_new_tokens": NEW_TOKENS})
    trainer = GRPOTrainer(
        model=model, args=arguments, processing_class=tokenizer, callbacks=[Clock()],
        train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in rows]),
        reward_funcs=lambda completions, **_: [float(len(c) % 7) for c in completions])
    trainer.train()
    steps = sorted(b - a for a, b in zip(times, times[1:]))
    print(round(steps[len(steps) // 2], 3))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    elif sys.argv[1] == "distill":
        distill(sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
    else:
        run(sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
