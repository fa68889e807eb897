#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the files of this directory with the gguf package (0.19), numpy and tokenizers (0.23).

blocks.json + TYPE.blocks: random blocks of each type and the SHA-256 of the fp32 numbers that gguf.quants.dequantize makes of
them (scales are finite: what a NaN's bits are is nobody's promise).
NAME.gguf + NAME.json: small models of each family with random weights in mixed types; SHA-256 of the fp32 bytes of every
weight under its checkpoint name, rows of q and k in the checkpoint's order.
NAME.tokenizer.json: what the tokenizers library writes for the same vocabulary.
make_fixtures.py [DIRECTORY]; the same bytes each time."""
import hashlib
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
rng = np.random.default_rng(15)


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


# --- blocks

# Byte offsets of the fp16 scales of each type, within a block.
SCALES = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.F16: [0], T.BF16: [], T.F32: []}


def blocks(kind, count):
    size = gguf.GGML_QUANT_SIZES[kind][1]
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in SCALES[kind]:
        halves = data[:, offset:offset + 2].copy().view(np.uint16)
        # No infinities or NaN, but zeros of both signs, subnormal and large numbers.
        halves[(halves & 0x7C00) == 0x7C00] &= 0xBBFF
        if count >= 8 and kind != T.F16:
            halves[:6, 0] = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF]
        data[:, offset:offset + 2] = halves.view(np.uint8)
    for kind2, mask, column in ((T.F32, 0x7F, 3), (T.BF16, 0x7F, 1)):
        if kind == kind2:
            special = (data[:, column] & mask) == 0x7F
            data[special, column] &= 0xBF
    return data


table = {}
for kind in SCALES:
    data = blocks(kind, 64 if gguf.GGML_QUANT_SIZES[kind][0] > 1 else 512)
    (out / f"{kind.name}.blocks").write_bytes(data.tobytes())
    with np.errstate(over="ignore", invalid="ignore"):
        values = gguf.quants.dequantize(data, kind).astype(np.float32)
    assert np.isfinite(values).all(), kind
    table[kind.name] = {"code": int(kind), "sha256": sha(values), "first": [float(v) for v in values.ravel()[:8]]}
(out / "blocks.json").write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")

# --- tokenizers

# The letters that stand for the 256 bytes in a byte-level vocabulary.
shown = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
letters = {byte: chr(byte) for byte in shown}
for byte in range(256):
    if byte not in letters:
        letters[byte] = chr(256 + sum(1 for b in letters if ord(letters[b]) >= 256))
alphabet = [letters[byte] for byte in range(256)]
space = letters[32]
PAIRS = [(space, "t"), ("h", "e"), ("i", "n"), (space + "t", "he"), ("e", "r"), (space, "a"), ("1", "2"), ("o", "n"),
         ("'", "s"), (space, space), ("in", "g"), (letters[0xC3], letters[0xA9]), ("12", "3"), ("!", "!"),
         (letters[10], letters[10]), ("A", "B"), (space + "a", "n")]
MERGED = [a + b for a, b in PAIRS]
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def level(prefix, trims, splits):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, trim_offsets=trims, use_regex=splits)


def template(bos, bos_id):
    return processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, bos_id)])


def vocabulary(style):
    """Tokens with their kinds, in order of ids, and whether the added ones belong to the model's own vocabulary."""
    words = [(token, 1) for token in alphabet + MERGED]
    if style == "smollm":
        return [("<|endoftext|>", 3), ("<|im_start|>", 3), ("<|im_end|>", 3)] + words, True
    added = [("<|begin|>", 3), ("<|end|>", 3), ("<tool>", 4), ("</tool>", 4)]
    if style == "gpt-2":  # a row without a token between them
        return words + added[:2] + [(f"[PAD{len(words) + 2}]", 5)] + added[2:], True
    return words + added + [(f"[PAD{len(words) + 4 + i}]", 5) for i in range(3)], False


def tokenizer(style, tokens, inside, bos):
    filler = {i for i, (token, kind) in enumerate(tokens) if kind == 5}
    special = {i for i, (token, kind) in enumerate(tokens) if kind in (3, 4)}
    vocab = {token: i for i, (token, kind) in enumerate(tokens) if i not in filler and (inside or i not in special)}
    model = models.BPE(vocab=vocab, merges=PAIRS, ignore_merges=style == "llama-bpe")
    result = Tokenizer(model)
    if style == "smollm":
        result.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level(False, True, True)])
        result.decoder = decoders.ByteLevel()
    elif style == "gpt-2":
        result.pre_tokenizer = level(False, True, True)
        result.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=False, use_regex=True)
        result.decoder = decoders.ByteLevel()
    elif style == "qwen2":
        result.normalizer = normalizers.NFC()
        result.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN % r"\p{N}"), "isolated"), level(False, False, False)])
        result.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
        result.decoder = decoders.ByteLevel()
    else:
        result.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN % r"\p{N}{1,3}"), "isolated"), level(False, True, False)])
        result.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=False, use_regex=True)
        if bos is not None:
            result.post_processor = processors.Sequence([result.post_processor, template(tokens[bos][0], bos)])
        result.decoder = decoders.ByteLevel()
    if style == "smollm" and bos is not None:
        result.post_processor = template(tokens[bos][0], bos)
    for i in sorted(special):
        token = AddedToken(tokens[i][0], normalized=False, special=tokens[i][1] == 3)
        (result.add_special_tokens if tokens[i][1] == 3 else result.add_tokens)([token])
        assert result.token_to_id(tokens[i][0]) == i, tokens[i]
    return result


# --- models

def row_pairs(weight, heads):
    """Rows of a checkpoint (halves of a head turn together) in GGUF's order (neighbours do)."""
    rows = weight.shape[0] // heads
    return weight.reshape(heads, 2, rows // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def from_pairs(weight, heads):
    rows = weight.shape[0] // heads
    return weight.reshape(heads, rows // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def model(name, family, style, *, hidden, heads, kv, head, inner, layers, types, experts=0, tied=False, parts=0, rope=None,
          eos=None, bos=None, extra=()):
    tokens, inside = vocabulary(style)
    rows = len(tokens) + 3 if style == "qwen2" else len(tokens)
    writer = gguf.GGUFWriter(out / f"{name}.gguf", family, split_max_tensors=parts)
    writer.add_name(name)
    writer.add_block_count(layers)
    writer.add_context_length(512)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    if head * heads != hidden or family.startswith("qwen3"):
        writer.add_key_length(head)
        writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(1e-6 if family != "llama" else 1e-5)
    writer.add_rope_freq_base(500000.0 if rope else 1000000.0)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(inner // 2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(style)
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_token_merges([f"{a} {b}" for a, b in PAIRS])
    ids = {token: i for i, (token, _) in enumerate(tokens)}
    writer.add_eos_token_id(ids[eos[0]])
    if len(eos) > 1:
        writer.add_eot_token_id(ids[eos[1]])
    if bos:
        writer.add_bos_token_id(ids[bos])
    writer.add_chat_template("{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}")
    for call in extra:
        call(writer)
    expected = {}
    kinds = iter(types * 1000)

    def add(target, source, shape, kind=None, heads=0):
        kind = next(kinds) if kind is None else kind
        if shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = T.F16
        weight = rng.normal(0, 0.05, shape).astype(np.float32)
        stored = gguf.quants.quantize(row_pairs(weight, heads) if heads else weight, kind)
        values = np.asarray(gguf.quants.dequantize(stored, kind), dtype=np.float32).reshape(shape)
        if kind == T.F32:
            writer.add_tensor(source, values)
        elif kind == T.F16:
            writer.add_tensor(source, stored)
        else:
            writer.add_tensor(source, stored, raw_dtype=kind)
        if not isinstance(target, str):
            for expert, expert_name in enumerate(target):
                expected[expert_name] = sha(values[expert])
        else:
            expected[target] = sha(from_pairs(values, heads) if heads else values)

    add("model.embed_tokens.weight", "token_embd.weight", (rows, hidden), T.Q8_0)
    for layer in range(layers):
        to, of = f"model.layers.{layer}.", f"blk.{layer}."
        for projection, short, size, count in (("q_proj", "attn_q", heads * head, heads), ("k_proj", "attn_k", kv * head, kv),
                                               ("v_proj", "attn_v", kv * head, 0)):
            add(f"{to}self_attn.{projection}.weight", f"{of}{short}.weight", (size, hidden), heads=count if family == "llama" else 0)
            if family == "qwen2":
                add(f"{to}self_attn.{projection}.bias", f"{of}{short}.bias", (size,), T.F32)
        add(f"{to}self_attn.o_proj.weight", f"{of}attn_output.weight", (hidden, heads * head))
        if family.startswith("qwen3"):
            add(f"{to}self_attn.q_norm.weight", f"{of}attn_q_norm.weight", (head,), T.F32)
            add(f"{to}self_attn.k_norm.weight", f"{of}attn_k_norm.weight", (head,), T.F32)
        if experts:
            add(f"{to}mlp.gate.weight", f"{of}ffn_gate_inp.weight", (experts, hidden), T.F32)
            for projection, short, shape in (("gate_proj", "ffn_gate_exps", (inner // 2, hidden)), ("up_proj", "ffn_up_exps", (inner // 2, hidden)),
                                             ("down_proj", "ffn_down_exps", (hidden, inner // 2))):
                add([f"{to}mlp.experts.{e}.{projection}.weight" for e in range(experts)], f"{of}{short}.weight", (experts, *shape))
        else:
            add(f"{to}mlp.gate_proj.weight", f"{of}ffn_gate.weight", (inner, hidden))
            add(f"{to}mlp.up_proj.weight", f"{of}ffn_up.weight", (inner, hidden))
            add(f"{to}mlp.down_proj.weight", f"{of}ffn_down.weight", (hidden, inner))
        add(f"{to}input_layernorm.weight", f"{of}attn_norm.weight", (hidden,), T.F32)
        add(f"{to}post_attention_layernorm.weight", f"{of}ffn_norm.weight", (hidden,), T.F32)
    add("model.norm.weight", "output_norm.weight", (hidden,), T.F32)
    if not tied:
        add("lm_head.weight", "output.weight", (rows, hidden))
    if rope:
        factor, low, high, original = rope
        wavelength = 2 * np.pi * 500000.0 ** (np.arange(0, head, 2) / head)
        smooth = (original / wavelength - low) / (high - low)
        factors = np.where(wavelength < original / high, 1, np.where(wavelength > original / low, factor, 1 / ((1 - smooth) / factor + smooth)))
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    begins = bos is not None and style in ("smollm", "llama-bpe")
    made = tokenizer(style, tokens, inside, ids[bos] if begins else None)
    if style == "qwen2":  # Python's ByteLevel decoder takes no options; the library keeps those of the released file
        text = json.loads(made.to_str())
        text["decoder"].update(add_prefix_space=False, trim_offsets=False, use_regex=False)
        made = Tokenizer.from_str(json.dumps(text))
    made.save(str(out / f"{name}.tokenizer.json"))
    texts = ["The thing is, then: 123 and 12!!", " In \u00e9t\u00e9 e\u0301 we're  here\n\n\n x", "<|end|><tool>\u4e2d\u6587 AB's</tool> 4567"]
    (out / f"{name}.json").write_text(json.dumps(
        {"weights": expected, "encodings": [{"text": text, "ids": made.encode(text).ids} for text in texts]}, indent=1, sort_keys=True) + "\n")


model("llama", "llama", "llama-bpe", hidden=64, heads=4, kv=2, head=16, inner=96, layers=2, types=[T.Q4_1, T.Q5_0, T.Q8_0], bos="<|begin|>",
      eos=["<|end|>", "<tool>"], rope=(32.0, 1.0, 4.0, 8192))
model("llama-tied", "llama", "smollm", hidden=64, heads=2, kv=1, head=32, inner=64, layers=1, types=[T.Q4_0, T.F16], tied=True, bos="<|im_start|>",
      eos=["<|im_end|>"], extra=[lambda w: w.add_add_bos_token(True), lambda w: w.add_pad_token_id(2), lambda w: w.add_unk_token_id(0),
                                lambda w: w.add_custom_alignment(64)])
model("qwen2", "qwen2", "qwen2", hidden=64, heads=4, kv=2, head=16, inner=96, layers=2, types=[T.Q5_1, T.BF16, T.Q8_0], parts=12, bos="<|begin|>",
      eos=["<|end|>"], extra=[lambda w: w.add_add_bos_token(False)])
model("qwen3", "qwen3", "gpt-2", hidden=64, heads=4, kv=2, head=32, inner=96, layers=1, types=[T.F16, T.Q8_0, T.F32], tied=True, eos=["<|end|>"],
      extra=[lambda w: w.add_sampling_temp(0.6), lambda w: w.add_sampling_top_p(0.95), lambda w: w.add_sampling_top_k(20)])
model("qwen3moe", "qwen3moe", "qwen2", hidden=64, heads=4, kv=2, head=32, inner=128, layers=2, types=[T.Q8_0, T.Q4_0, T.Q5_1], experts=4, eos=["<|end|>"])
