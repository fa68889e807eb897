// SPDX-License-Identifier: Apache-2.0
import Foundation
import Rewards
import TestSupport
import Testing

/// The examples of Cluster/jobs as a person with a checkpoint and a file of rows types them. Stand-ins are tiny models of the
/// real families and rows of the real forms.
@Suite("Example jobs", .serialized)
struct ExampleJobsTests {
    private static let jobs = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Cluster/jobs")

    /// Rows as GSM8K has them.
    private static let questions = """
        {"question": "Ann has 3 apples and buys 4 more. How many has she?", "answer": "Ann has 3+4 = <<3+4=7>>7 apples.\\n#### 7"}
        {"question": "A box holds 6 eggs. How many are in 2 boxes?", "answer": "There are 6*2 = <<6*2=12>>12 eggs.\\n#### 12"}
        {"question": "Tom had 1,200 stamps and gave 200 away. How many are left?", "answer": "1200-200 = 1000.\\n#### 1,000"}
        {"question": "Half of 18?", "answer": "#### 9"}
        """
    private static let conversations = """
        {"messages": [{"role": "user", "content": "Say hello."}, {"role": "assistant", "content": "Hello!"}]}
        {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
        """
    /// Sizes of a test instead of a day's.
    private static let small = [
        "--workers", "2", "--set", "steps=1", "--set", "rows_per_step=2", "--set", "resources.kv_cache_bytes=16MiB",
    ]

    private static func bench(_ presets: [String: String]) throws -> Workbench {
        let bench = try Workbench("example-jobs")
        for (name, preset) in presets {
            let made = try bench.apus(
                "model", "init", name, "--preset", preset, "--layers", "2", "--tokenizer",
                Fixtures.url("tokenizer/main").path)
            try #require(made.status == 0, "\(made.errors)")
        }
        try bench.write("questions.jsonl", questions)
        try bench.write("conversations.jsonl", conversations)
        return bench
    }

    private static func path(_ name: String) -> String { jobs.appendingPathComponent(name).path }

    @Test(
        "a model and questions: two commands, with everything found from the checkpoint and said",
        arguments: ["tiny-dense", "tiny-moe", "tiny-qwen2", "tiny-llama"])
    func questionsAndAnswers(_ preset: String) throws {
        let bench = try Self.bench(["model": preset])
        let given = ["--set", "model=model", "--set", "data=questions.jsonl"]
        let plan = try bench.apus(["plan", Self.path("gsm8k-grpo.yaml")] + given)
        #expect(plan.status == 0, "\(plan.errors)")
        for part in [
            "sampling.max_new_tokens", "from the checkpoint: half of the checkpoint's context",
            "optimizer.learning_rate", "2e-06", "method grpo", "--set model=model", "gsm8k-grpo.yaml:",
            "in all",
        ] { #expect(plan.output.contains(part), "\(part) is not in:\n\(plan.output)") }
        let run = try bench.apus(
            ["run", Self.path("gsm8k-grpo.yaml")] + given + Self.small + [
                "--set", "output=out", "--set", "group_size=2", "--set", "sampling.max_new_tokens=24",
            ])
        #expect(run.status == 0, "\(run.errors)\(run.output)")
        for part in [
            "gsm8k-grpo: grpo, 1 step of 2 prompts with 2 responses, from 4 rows", "settings found from the checkpoint",
            "memory: each of 2 workers needs", "first prompt:", "put the final answer within",
        ] { #expect(run.output.contains(part), "\(part) is not in:\n\(run.output)") }
        #expect(bench.text("out/metrics.jsonl").contains("\"reward\""))
        #expect(bench.text("out/job.yaml").contains("learning_rate: 2e-06"))
        #expect(bench.text("out/rollouts/text.jsonl").contains("Ann has 3 apples"))
        // What was found stays found.
        let again = try bench.apus(
            ["run", Self.path("gsm8k-grpo.yaml")] + given + Self.small + [
                "--set", "output=out", "--set", "group_size=2", "--set", "sampling.max_new_tokens=24",
            ])
        #expect(again.status == 0 && again.output.contains("done already"), "\(again.errors)\(again.output)")
    }

    @Test("conversations: supervised fine-tuning")
    func conversationsOnly() throws {
        let bench = try Self.bench(["model": "tiny-dense"])
        let run = try bench.apus(
            [
                "run", Self.path("sft.yaml"), "--set", "model=model", "--set", "data=conversations.jsonl", "--set",
                "output=out",
            ]
                + Self.small)
        #expect(run.status == 0, "\(run.errors)\(run.output)")
        #expect(FileManager.default.fileExists(atPath: bench.url("out/model/model.safetensors.index.json").path))
        #expect(bench.text("out/metrics.jsonl").contains("\"loss\""))
    }

    @Test("where memory is small fewer cells are under way at once, and the bytes are the same")
    func fewerCells() throws {
        let bench = try Self.bench(["model": "tiny-dense"])
        let job =
            [
                Self.path("sft.yaml"), "--set", "model=model", "--set", "data=conversations.jsonl", "--set",
                "cell_tokens=32", "--threads",
            ]
        let small = ["--workers", "1", "--set", "steps=2", "--set", "resources.kv_cache_bytes=16MiB"]
        let plan = try bench.apus(["plan"] + job + ["1"] + small)
        let needed = try #require(
            plan.output.firstMatch(of: /in all +([0-9.]+) MiB/).flatMap { Double($0.output.1) }, "\(plan.output)")
        var weights: [Data] = []
        for (output, memory) in [("roomy", []), ("tight", ["--memory", "\(Int(needed) + 4)MiB"])] {
            let run = try bench.apus(["run"] + job + ["2", "--set", "output=\(output)"] + small + memory)
            try #require(run.status == 0, "\(run.errors)\(run.output)")
            weights.append(try Data(contentsOf: bench.url("\(output)/model/model-trunk.safetensors")))
        }
        #expect(weights[0] == weights[1])
        let both = try bench.apus(["plan"] + job + ["2", "--memory", "8GiB"] + small)
        #expect(both.output.contains("2 cells under way") && plan.output.contains("1 cell under way"), "\(both.output)")
    }

    @Test("a teacher and questions: distillation on the student's own answers")
    func teacher() throws {
        let bench = try Self.bench(["student": "tiny-dense", "teacher": "tiny-qwen2"])
        let run = try bench.apus(
            [
                "run", Self.path("distill.yaml"), "--set", "model=student", "--set", "teacher=teacher", "--set",
                "data=questions.jsonl", "--set", "output=out", "--set", "sampling.max_new_tokens=16",
            ] + Self.small)
        #expect(run.status == 0, "\(run.errors)\(run.output)")
        #expect(FileManager.default.fileExists(atPath: bench.url("out/model/model.safetensors.index.json").path))
    }

    @Test(
        "what is wrong is said before a process starts: a model that is not there, rows of another form, too little memory"
    )
    func refusals() throws {
        let bench = try Self.bench(["model": "tiny-dense"])
        let absent = try bench.apus(
            "run", Self.path("gsm8k-grpo.yaml"), "--set", "model=nowhere", "--set", "data=questions.jsonl", "--set",
            "output=out")
        #expect(absent.status == 3 && absent.errors.contains("nowhere"), "\(absent.errors)")
        let rows = try bench.apus(
            "run", Self.path("gsm8k-grpo.yaml"), "--set", "model=model", "--set", "data=conversations.jsonl", "--set",
            "output=out")
        #expect(rows.status == 3 && rows.errors.contains("conversations.jsonl"), "\(rows.errors)")
        let memory = try bench.apus(
            "run", Self.path("gsm8k-grpo.yaml"), "--set", "model=model", "--set", "data=questions.jsonl", "--set",
            "output=out", "--memory", "64MiB")
        #expect(memory.status == 3 && memory.errors.contains("has 64.0 MiB"), "\(memory.errors)")
        #expect(!FileManager.default.fileExists(atPath: bench.url("out").path))
        #expect(!FileManager.default.fileExists(atPath: bench.url(".out.cluster").path))
    }

    // MARK: - The flagship recipe

    private static let nouns = [
        "apples", "bridges", "candles", "dragons", "engines", "feathers", "gardens", "hammers", "islands", "jackets",
        "kettles", "lanterns", "mirrors", "needles", "oranges", "pillows", "quilts", "rivers", "saddles", "tunnels",
    ]

    /// Questions that have nothing in common, whose answers are 7 and 5 in turn.
    private static func queries(_ count: Int) -> [(id: String, text: String, answer: Int)] {
        (0..<count).map { index in
            let (a, b) = (nouns[index % nouns.count], nouns[(index * 7 + 3) % nouns.count])
            return ("q\(index)", "How many \(a) has number \(index * 37) of the \(b)?", index % 2 == 0 ? 7 : 5)
        }
    }

    private static func line(_ object: [String: Any]) throws -> String {
        String(decoding: try JSONSerialization.data(withJSONObject: object, options: .sortedKeys), as: UTF8.self)
    }

    /// Learns `rows` by heart with the example for that.
    private static func teach(_ bench: Workbench, _ model: String, _ rows: [[String: Any]], to name: String) throws {
        try bench.write("\(name).jsonl", try rows.map(line).joined(separator: "\n"))
        let taught = try bench.apus(
            "run", path("sft.yaml"), "--workers", "2", "--set", "model=\(model)", "--set", "data=\(name).jsonl",
            "--set",
            "output=taught-\(name)", "--set", "steps=160", "--set", "rows_per_step=8", "--set",
            "optimizer.learning_rate=3e-3", "--set", "checkpoint.every=160", "--set", "resources.kv_cache_bytes=16MiB")
        try #require(taught.status == 0, "\(taught.errors)\(taught.output)")
    }

    @Test(
        "the flagship recipe runs from its first to its last stage with stand-ins of QwQ-32B and Qwen2.5-72B-Instruct",
        .enabled(if: SandboxAvailability.problem == nil, "\(SandboxAvailability.problem ?? "")"))
    func flagship() throws {
        let bench = try Self.bench(["base": "tiny-dense", "helper": "tiny-qwen2"])
        let queries = Self.queries(40)
        // QwQ's stand-in thinks and is right half of the time; so is the base, which a few steps could not teach.
        let answers = queries.flatMap { query in
            [7, 5].map { number -> [String: Any] in
                [
                    "messages": [
                        ["role": "user", "content": query.text],
                        [
                            "role": "assistant", "reasoning_content": "It must be \(number).",
                            "content": "The answer is \\boxed{\(number)}.",
                        ],
                    ]
                ]
            }
        }
        try Self.teach(bench, "helper", answers, to: "generator")
        try Self.teach(bench, "base", answers, to: "base")
        // Qwen2.5's stand-in answers every question with a score.
        let scores = (queries.map(\.text) + queries.map { "Judge the response to a question. \($0.text)" }).map {
            text -> [String: Any] in
            ["messages": [["role": "user", "content": text], ["role": "assistant", "content": "Score: 8"]]]
        }
        try Self.teach(bench, "helper", scores, to: "judge")
        try bench.write(
            "queries.jsonl",
            try queries.map {
                try Self.line([
                    "id": $0.id, "problem": $0.text, "answer": "\($0.answer)",
                    "domain": "counting",
                ])
            }.joined(separator: "\n"))
        try bench.write(
            "direct.jsonl",
            try (0..<8).map {
                try Self.line([
                    "id": "direct-\($0)",
                    "messages": [
                        ["role": "user", "content": "Name the number on the crate of \(Self.nouns[$0])."],
                        ["role": "assistant", "content": "The answer is \\boxed{\($0 % 2 == 0 ? 7 : 5)}."],
                    ],
                ])
            }.joined(separator: "\n"))
        try bench.write(
            "general.jsonl",
            try (0..<6).map {
                try Self.line([
                    "id": "general-\($0)",
                    "messages": [["role": "user", "content": "Say how many \(Self.nouns[$0]) there are."]],
                    "answer": "7", "reward": $0 % 2 == 0 ? "judge" : "math_answer",
                ])
            }.joined(separator: "\n"))
        var settings = ["output=\(bench.url("flagship").path)"]
        for (name, value) in [
            "base": bench.url("taught-base/model").path, "generator": bench.url("taught-generator/model").path,
            "judge": bench.url("taught-judge/model").path, "queries": bench.url("queries.jsonl").path,
            "direct": bench.url("direct.jsonl").path, "general": bench.url("general.jsonl").path,
            "thinking_tokens": "64", "direct_tokens": "48", "evaluation_tokens": "64", "rows_per_step": "2",
            "group_size": "4", "query_count": "18", "cold_start_steps": "2", "pair_count": "8", "reasoning_steps": "2",
            "fusion_steps": "2", "dialogue_count": "4", "general_steps": "2", "cache": "64MiB", "reserve_share": "0.1",
        ] { settings.append("variables.\(name)=\(value)") }
        let run = try bench.apus(
            ["run", Self.path("qwen3-flagship.yaml"), "--workers", "2"] + settings.sorted().flatMap { ["--set", $0] },
            seconds: 600)
        try #require(run.status == 0, "\(run.errors)\(run.output)")
        for part in ["general-rl", "after-4.reserve.thinking.score", "report.html"] {
            #expect(run.output.contains(part), "\(part) is not in:\n\(run.output)")
        }
        #expect(bench.text("flagship/report.md").contains("4 general RL"))
    }
}
