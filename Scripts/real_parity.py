# SPDX-License-Identifier: Apache-2.0
"""What transformers says of a pretrained model, as a fixture of the kind "pretrained": real_parity.py MODEL DIRECTORY [--small].
--small: a few prompts and logits, to be committed. Computed in float32 on one thread, with eager attention."""
import argparse
import json
import random
import sys
from pathlib import Path

import numpy
import torch
import transformers
from safetensors.numpy import save_file

PROMPTS = [
    "The capital of France is", "def fibonacci(n):\n    ", "Once upon a time, in a small village by the sea,",
    "Water boils at 100 degrees", "12 + 30 = 42, 7 * 8 =", "She said: \u201cIt\u2019s raining again\u201d, and closed the window.",
    "Die Hauptstadt von \u00d6sterreich ist", "\u6771\u4eac\u306f\u65e5\u672c\u306e", "SELECT name, count(*) FROM users GROUP BY",
    "A list of colours:\n- red\n- green\n-", "In 1969, Neil Armstrong", "E = mc\u00b2 means that",
]
QUESTIONS = [
    "Write one sentence about the sea.", "What is 17 plus 25?", "Name three animals that live in Africa.",
    "Explain photosynthesis to a child.", "Translate 'good morning' into French.", "Write a Python function that reverses a text.",
    "Why is the sky blue?", "Give me a recipe for pancakes.",
]
GREEDY = [0, 12, 15, 17, 19]


def prompts(tokenizer):
    chats = [tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
             for question in QUESTIONS]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in PROMPTS + chats]


def mixed_text(size):
    """Pieces of text of every script, code, numbers, blanks and rubbish, `size` bytes in all."""
    draw = random.Random(1)
    ranges = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F),
              (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2150, 0x218F), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
              (0x300, 0x36F), (0xFF00, 0xFFEF), (0x1F300, 0x1F6FF), (0x1D400, 0x1D7FF)]
    words = ("the of and to in is that it was for on are as with his they at be this from have or by one had not but what all were when we "
             "there can an your which their said if do will each about how up out them then she many some so these would other into has "
             "more her two like him see time could no make than first been its who now people my made over did down only way find use "
             "I'm you're it's they'll we've don't O'Neil's naïve café Zürich def return import self lambda None True != == <= += -> =>").split()
    specials = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\n", "<|im_end|>\n"]

    def word():
        kind = draw.random()
        if kind < 0.62:
            text = draw.choice(words)
            return draw.choice([text, text, text, text.upper(), text.capitalize()])
        if kind < 0.74:
            return "".join(draw.choice("0123456789") for _ in range(draw.randint(1, 9)))
        if kind < 0.80:
            return draw.choice(["", "$", "-", "+"]) + f"{draw.uniform(0, 1e6):,.{draw.randint(0, 5)}f}"
        if kind < 0.86:
            return "".join(draw.choice("()[]{}<>.,;:!?/\\|@#%^&*~`'\"_=+-") for _ in range(draw.randint(1, 6)))
        if kind < 0.98:
            low, high = draw.choice(ranges)
            return "".join(chr(draw.randint(low, high)) for _ in range(draw.randint(1, 8)))
        return draw.choice(specials)

    pieces, total = [], 0
    while total < size:
        text = ""
        while len(text.encode()) < draw.choice([20, 200, 2000]):
            text += word() + draw.choice([" ", " ", " ", " ", "", "  ", "\n", "\n\n", "\t", " \n", "    ", "\r\n", "\u00a0", "\u3000"])
        text = text.encode("utf-8", "ignore").decode()
        pieces.append(text)
        total += len(text.encode())
    return pieces


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1 if options.small else 2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="eager").eval()
    ids = prompts(tokenizer)
    if options.small:
        ids = [ids[i] for i in (0, 1, 5, 7, 12, 13)]
    forward, logits, draw = [], {}, random.Random(2)
    for index, prompt in enumerate(ids):
        first = max(0, len(prompt) - (8 if options.small else 24))
        with torch.no_grad():
            values = model(torch.tensor([prompt])).logits[0, first:]
        best = values.topk(2, dim=-1)
        chosen = [sorted(set(values[row].topk(3).indices.tolist() + [draw.randrange(values.shape[1]) for _ in range(3)]))
                  for row in range(values.shape[0])]
        forward.append({
            "ids": prompt, "first": first, "top": best.indices[:, 0].tolist(),
            "margins": [round(float(a - b), 6) for a, b in best.values], "chosen": chosen,
            "logits": [[float(f"{float(values[row, i]):.9g}") for i in chosen[row]] for row in range(values.shape[0])]})
        logits[f"prompt{index}"] = numpy.ascontiguousarray(values.numpy())
    greedy = []
    for index in ([0, 4] if options.small else GREEDY):
        count = 48 if options.small else 200
        with torch.no_grad():
            made = model.generate(torch.tensor([ids[index]]), attention_mask=torch.ones(1, len(ids[index]), dtype=torch.long), do_sample=False,
                                  max_new_tokens=count, min_new_tokens=count, eos_token_id=None, pad_token_id=0,
                                  return_dict_in_generate=True, output_logits=True)
        margins = [float(a - b) for a, b in (step[0].topk(2).values for step in made.logits)]
        greedy.append({"ids": ids[index], "continuation": made.sequences[0, len(ids[index]):].tolist(), "margin": round(min(margins), 6)})
    texts = mixed_text(12_000 if options.small else 1_000_000)
    encodings = [{"text": text, "ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in texts]
    options.directory.mkdir(parents=True, exist_ok=True)
    (options.directory / "cases.json").write_text(json.dumps(
        {"model": options.model.resolve().name, "made_by": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}",
         "encodings": encodings, "forward": forward, "greedy": greedy}, ensure_ascii=False, separators=(",", ":")) + "\n")
    if not options.small:
        save_file(logits, options.directory / "logits.safetensors")
    print(f"real-parity: {options.directory}: {len(ids)} prompts, {len(greedy)} greedy texts, {sum(len(t.encode()) for t in texts)} bytes of text",
          file=sys.stderr)


main()
