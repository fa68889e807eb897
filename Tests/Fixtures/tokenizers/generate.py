#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tokenizers of this folder and what the tokenizers library (0.23) and transformers (5.24) make of texts.

Each folder has a small byte-level BPE tokenizer of another kind, trained on the words below, and cases.json: texts with
ids, offsets and the decoded text, without and with what the post-processor adds. split_cases.json has pieces of texts
under split expressions as they are spelled in the wild. Run with a Python that has both packages.
"""
import json
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent
SUFFIX = r"\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?" + SUFFIX % r"\p{N}"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?" + SUFFIX % r"\p{N}{1,3}"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = [
    QWEN2, LLAMA3, GPT2,
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s",
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?" + SUFFIX % r"\p{N}",
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?" + SUFFIX % r"\p{N}{1,3}",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?:'s|'t|'re|'ve|'m|'ll|'d)| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+",
    r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
]
WORDS = ("the of and to in a is that it for was on are as with they be at one have this from or had by hot word but what some "
         "we can out other were all there when up use your how said an each she which do their time if will way about many "
         "then them write would like so these her long make thing see him two has look more day could go come did number "
         "sound no most people my over know water than call first who may down side been now find any new work part take get "
         "place made live where after back little only round man year came show every good me give our under name very "
         "through just form sentence great think say help low line differ turn cause much mean before move right boy old too "
         "same tell does set three want air well also play small end put home read hand port large spell add even land here "
         "must big high such follow act why ask men change went light kind off need house picture try us again animal point "
         "Wörter für Größe über Straße été déjà naïve Привет мир как дела мы идём домой שלום עולם مرحبا بالعالم नमस्ते "
         "दुनिया 你好 世界 模型 训练 日本語 テキスト カタカナ 한국어 문장 สวัสดี def return self import print lambda").split()
TEXTS = [
    "", " ", "\n", "a", "  leading and trailing  ", "It's what we'll do; they'RE sure I'D say it isn'T so, you'Ve 'seen'.",
    "don't DON'T can\u2019t 'ſ 'ſt x'ſ", "In 2024, 1234567 people paid 12.50 or 3,999,000.75", "a1b22c333d4444 55555 666666",
    " 1 12  123   1234\t12345\n67", "²³¹ ½ Ⅷ ٣٤٥ १२३ ０１２３ 𝟘𝟙 𑷠𑷡 a𑷢", "x=f(y)+[1,2]*{3:4}; // c++ <- !! ??? #$%^&*",
    "def f(x):\n    if x:\n\n\n        return  x\r\n\tpass\n\n", "tabs\t\tand\u00a0no-break\u2003em\u3000wide   spaces",
    "line\rreturn\r\n\r\nand\n \n  \n   x", "Straße naïve déjà vu cafe\u0301 A\u030angstro\u0308m \u1e9b\u0323 \u212b",
    "你好，世界！模型训练123次。", "日本語テキストとカタカナ、ｶﾀｶﾅ", "한국어 문장 \u1112\u1161\u11ab 각각", "Привет, мир! Как дела?",
    "שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดี", "🙂 🙃🙃 👩‍👩‍👧‍👦 🇩🇪 ✓✓ →", "\u200b\u200d\ufeff\u0000\u0001 \u007f",
    "___snake_case__ CamelCaseWord kebab-case", "https://example.org/a?b=c&d=%20#e", "...!!!\n\n\n...\n", "'", "''s", " 's 't",
    "<s>not special</s> <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "the the  the   the", "a\u0300\u0301\u0302 b\u0327\u0307",
    "<name>x<name> y <name>", "pre<word>fix <word> <word>, _<word> é<word> <word>\u0301 <word>1 (<word>)",
    "x  <left>  y  <right>  z <both> <both>  w\n<left>\n<right>\n ", "cafe\u0301x caf\u00e9x e\u0301t", "<left><right><left> <right> <both>",
]


def random_texts(count, seed):
    rng = random.Random(seed)
    pools = [(0x20, 0x7E), (0x09, 0x0D), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F),
             (0x1100, 0x11FF), (0x2000, 0x206F), (0x2070, 0x218F), (0x3040, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xACFF),
             (0x1D7C0, 0x1D7FF), (0x1F300, 0x1F64F)]
    result = []
    for _ in range(count):
        text = ""
        for _ in range(rng.randrange(1, 14)):
            kind = rng.randrange(4)
            if kind == 0:
                text += rng.choice(WORDS)
            elif kind == 1:
                text += rng.choice([" ", "  ", "\n", "\n\n", "\t", " \n", "'s", "'LL", "12", "12345", "!", "...", "\r\n"])
            else:
                low, high = rng.choice(pools)
                text += "".join(chr(rng.randrange(low, high + 1)) for _ in range(rng.randrange(1, 5)))
        result.append(text)
    return result


def corpus():
    rng = random.Random(20261128)
    lines = []
    for _ in range(4000):
        words = [rng.choice(WORDS) for _ in range(rng.randrange(3, 12))]
        if rng.random() < 0.5:
            words.insert(rng.randrange(len(words)), str(rng.randrange(10 ** rng.randrange(1, 6))))
        line = " ".join(words)
        if rng.random() < 0.3:
            line = line.capitalize() + rng.choice([".", "!", "?", ", it's so.", ";\n    x = 1\n"])
        lines.append(line)
    return lines


def trained(pre_tokenizer, normalizer=None, special=("<s>", "</s>"), size=620):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def byte_level(**options):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, **options)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), behavior, invert), byte_level(use_regex=False)])


def tokenizers():
    yield "gpt2", trained(byte_level(), special=["<|endoftext|>"])
    llama = trained(split(LLAMA3))
    llama.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True, add_prefix_space=False),
        processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)])])
    document = json.loads(llama.to_str())
    document["model"]["ignore_merges"] = True
    # A word of the vocabulary that merges do not reach.
    document["model"]["vocab"]["\u0120spelling"] = len(document["model"]["vocab"])
    yield "llama3", Tokenizer.from_str(json.dumps(document))
    qwen = trained(split(QWEN2), normalizers.NFC(), special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    qwen.post_processor = processors.ByteLevel(trim_offsets=False, add_prefix_space=False)
    yield "qwen2", qwen
    digits = trained(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()]),
                     special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    digits.post_processor = processors.ByteLevel()
    yield "digits", digits
    yield "digit_runs", trained(
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), byte_level()]))
    added = trained(split(QWEN2, "removed", True), normalizers.Sequence([normalizers.NFC()]))
    added.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="$A $B", special_tokens=[("<s>", 0), ("</s>", 1)])
    added.add_tokens([
        AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("<both>", lstrip=True, rstrip=True, normalized=True),
        AddedToken("<word>", single_word=True, normalized=False), AddedToken("the", single_word=True, normalized=True),
        AddedToken("caf\u00e9x", lstrip=True, normalized=True), AddedToken("<name>", special=True)])
    yield "added", added


def main():
    texts = TEXTS + random_texts(120, 15)
    for name, tokenizer in tokenizers():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        document = json.loads(tokenizer.to_str())
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        (folder / "tokenizer.json").write_text(text + "\n")
        tokenizer = Tokenizer.from_str(text)
        cases = []
        for item in texts:
            bare, whole = tokenizer.encode(item, add_special_tokens=False), tokenizer.encode(item)
            case = {"text": item, "ids": bare.ids, "offsets": bare.offsets, "decoded": tokenizer.decode(bare.ids, False)}
            if whole.ids != bare.ids:
                case["sequence"] = whole.ids
            cases.append(case)
        write(folder / "cases.json", cases)
    splits = []
    for pattern in PATTERNS:
        pre = pre_tokenizers.Split(Regex(pattern), "isolated")
        pieces = [[text[a:b] for _, (a, b) in pre.pre_tokenize_str(text)] for text in texts]
        splits.append({"pattern": pattern, "pieces": pieces})
    write(HERE / "split_cases.json", splits)


def write(path, items):
    lines = ",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in items)
    path.write_text("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    sys.exit(main())
