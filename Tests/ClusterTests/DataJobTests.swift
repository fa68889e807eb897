// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// Data as people have them, from the command line to the files of a run.
@Suite("Data of jobs", .serialized)
struct DataJobTests {
    private let bench: Workbench

    init() throws {
        bench = try Workbench("data-forms")
        try bench.makeModel()
    }

    private func job(_ kind: String, _ data: String) throws {
        try bench.write(
            "job.yaml",
            """
            \(kind)
            name: test
            model: {path: model, compute: bf16}
            data: \(data)
            resources: {kv_cache_bytes: 16MiB, page_size: 16, max_sequences: 6}
            output: out
            """)
    }

    private static let rollout =
        "kind: rollout\ngroup_size: 2\nseed: 1\nreward: [exact]\nsampling: {max_new_tokens: 6}"
    private static let sft = "kind: train\nmethod: sft\nsteps: 1\nrows_per_step: 1\ncheckpoint: {every: 1}"

    @Test("rows of public forms are read by rollouts and by SFT; the plan shows the first as the model reads it")
    func plans() throws {
        let call =
            #"{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"f","arguments":{"x":1}}}]}"#
        let tools = #""tools":[{"type":"function","function":{"name":"g","parameters":{"z":1.0,"a":0.5}}}]"#
        let user = #"{"role":"user","content":"hi"}"#
        for (kind, row, keys, shown) in [
            (
                Self.rollout, #"{"prompt":"x","answer":98765432109876543210}"#, "",
                "a text that goes to the model as it is"
            ),
            (
                Self.rollout, #"{"prompt":"x","answer":2.71828182845904523536}"#, "apply_chat_template: true",
                "user\nx<|im_end|>"
            ),
            (
                Self.rollout,
                #"{"prompt":[\#(user)],"reward_model":{"style":"rule","ground_truth":"7"},"extra_info":{}}"#, "",
                "user\nhi<|im_end|>"
            ),
            (
                Self.rollout, #"{"prompt":[\#(user),\#(call),{"role":"tool","content":"ok"}],"answer":"1"}"#, "",
                "<tool_call>"
            ),
            (Self.rollout, #"{"prompt":[\#(user)],"answer":"1",\#(tools)}"#, "", #"{"z": 1.0, "a": 0.5}"#),
            (
                Self.rollout, #"{"question":"a b?","solution":"4"}"#,
                #"columns: {prompt: question, answer: solution}, system_prompt: Be brief., prompt_template: "{question}\nUse \\boxed{{}}.""#,
                "system\nBe brief.<|im_end|>\n<|im_start|>user\na b?\nUse \\boxed{}.<|im_end|>"
            ),
            (
                Self.sft, #"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"yo"}]}"#, "",
                "what is learned"
            ),
            (Self.sft, #"{"instruction":"Add.","input":"1 1","output":"2"}"#, "", "Add.\n\n1 1<|im_end|>"),
            (
                Self.sft, #"{"prompt":[\#(user)],"completion":[{"role":"assistant","content":"yo"}]}"#, "",
                "yo<|im_end|>"
            ),
            (
                Self.sft, #"{"question":"q","answer":"a"}"#, "columns: {prompt: question, completion: answer}",
                "what is learned, "
            ),
            (Self.sft, #"{"text":"All of it is learned."}"#, "", "of it is learned."),
        ] {
            try bench.write("rows.jsonl", row + "\n")
            try job(kind, "{path: rows.jsonl\(keys.isEmpty ? "" : ", ")\(keys)}")
            let plan = try bench.apus("plan", "job.yaml")
            #expect(plan.status == 0 && plan.output.contains(shown), "\(row)\n\(plan.errors)\(plan.output)")
        }
        try bench.write("rows.jsonl", #"{"question":"q","answer":"a"}"# + "\n")
        try job(Self.sft, "{path: rows.jsonl}")
        let refused = try bench.apus("plan", "job.yaml")
        #expect(refused.status == 3 && refused.errors.contains("rows.jsonl:1: "), "\(refused.errors)")
        #expect(
            refused.errors.contains("the row has: question, answer") && refused.errors.contains("completion: answer"))
    }

    @Test(
        "a run over comma-separated values says its first prompt and keeps it; the same rows as JSON give the same run")
    func run() throws {
        try bench.write("rows.csv", "question,answer\r\n\"one, two\",007\r\nthree,4\r\n")
        try job(Self.rollout, "{path: rows.csv, columns: {prompt: question}, apply_chat_template: true}")
        let first = try bench.apus("run", "job.yaml", "--workers", "1")
        try #require(first.status == 0, "\(first.errors)\(first.output)")
        #expect(first.output.contains("first prompt: row row-2, "), "\(first.output)")
        #expect(first.output.contains("user\none, two<|im_end|>"))
        let kept = try String(contentsOf: bench.url("out/first_prompt.txt"), encoding: .utf8)
        #expect(first.output.contains(kept))
        let texts = try String(contentsOf: bench.url("out/rollouts/text.jsonl"), encoding: .utf8)
        #expect(texts.contains("\"answer\": \"007\"") || texts.contains("\"answer\":\"007\""), "\(texts.prefix(400))")
        let convert = try bench.apus("data", "convert", "rows.csv", "rows.jsonl", "--column", "prompt=question")
        #expect(convert.status == 0, "\(convert.errors)")
        #expect(
            try String(contentsOf: bench.url("rows.jsonl"), encoding: .utf8)
                == #"{"answer":"007","prompt":"one, two"}"# + "\n" + #"{"answer":"4","prompt":"three"}"# + "\n")
        let twisted = try bench.apus("data", "convert", "rows.csv", "rows.jsonl", "--column", "prompt=frage")
        #expect(twisted.status == 3 && twisted.errors.contains("rows.csv:2: no column 'frage'"), "\(twisted.errors)")
    }
}
