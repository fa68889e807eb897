#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes template_cases.json: what transformers (5.24) makes of the templates of this folder and the conversations below."""
import datetime
import json
from pathlib import Path

import jinja2
from transformers.utils import chat_template_utils

HERE = Path(__file__).resolve().parent
NOW = datetime.datetime(2025, 3, 9, 14, 5, 7)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = Clock
USER, SYSTEM = {"role": "user", "content": "Wie spät ist es? "}, {"role": "system", "content": " Sei knapp. "}
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "clock", "arguments": {"zone": "Zürich", "digits": 1.0, "a": [1, None]}}}]}
TEXT_CALL = {"role": "assistant", "content": "So:", "tool_calls": [
    {"type": "function", "function": {"name": "clock", "arguments": "{\"zone\": 1}"}}]}
TWO = {"role": "assistant", "content": None, "tool_calls": CALL["tool_calls"] + [{"name": "f", "arguments": {}}]}
TOOL = {"role": "tool", "name": "clock", "content": "12:00"}
ANSWER = {"role": "assistant", "content": "Zwölf."}
THOUGHT = {"role": "assistant", "reasoning_content": "\nhm\n", "content": "\nZwölf."}
TAGGED = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nZwölf."}
PARTS = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]}
TOOLS = [{"type": "function", "function": {"name": "clock", "description": "Tells \"time\" <now>", "parameters": {
    "type": "object", "properties": {"zone": {"type": "string"}, "digits": {"type": "number", "default": 1.0}},
    "required": ["zone"]}, "x": [1, 2], "strict": True}}]
CONVERSATIONS = [
    [USER], [SYSTEM, USER], [USER, ANSWER], [SYSTEM, USER, ANSWER, USER], [USER, THOUGHT], [USER, THOUGHT, USER, THOUGHT],
    [USER, TAGGED], [USER, TAGGED, USER], [USER, CALL], [USER, CALL, TOOL], [USER, CALL, TOOL, TOOL, ANSWER],
    [USER, TEXT_CALL, TOOL], [USER, TWO], [PARTS], [PARTS, ANSWER], [USER, USER], [USER, CALL, TOOL, THOUGHT, USER],
    [ANSWER], [{"role": "user", "content": "<tool_response>\nx\n</tool_response>"}, THOUGHT],
]
OPTIONS = [
    {}, {"add_generation_prompt": True}, {"tools": TOOLS, "add_generation_prompt": True},
    {"add_generation_prompt": True, "kwargs": {"enable_thinking": False}},
    {"tools": TOOLS, "kwargs": {"tools_in_question": True, "date_string": "heute"}},
    {"kwargs": {"builtin_tools": ["search", "shell", "code"]}},
    {"documents": [{"title": "T", "text": "x"}, {"text": None}], "add_generation_prompt": True},
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def case(template, text, messages, options):
    item = {"template": template, "messages": messages, **options}
    kept = chat_template_utils._normalize_chat_messages(messages)
    try:
        rendered, spans = chat_template_utils.render_jinja_template(
            conversations=[kept], chat_template=text, tools=options.get("tools"), documents=options.get("documents"),
            add_generation_prompt=options.get("add_generation_prompt", False), return_assistant_tokens_mask=True,
            **{**TOKENS, **options.get("kwargs", {})})
        item["text"] = rendered[0]
        if spans and spans[0]:
            item["spans"] = [list(span) for span in spans[0]]
    except (jinja2.TemplateError, TypeError, KeyError) as error:
        item["error"] = str(error)
    return item


def main():
    cases = []
    for path in sorted((HERE / "templates").glob("*.jinja")):
        for messages in CONVERSATIONS:
            for options in OPTIONS:
                cases.append(case(path.stem, path.read_text(), messages, options))
    lines = ",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in cases)
    (HERE / "template_cases.json").write_text("[\n" + lines + "\n]\n")
    print(len(cases), sum("error" in item for item in cases))


if __name__ == "__main__":
    main()
