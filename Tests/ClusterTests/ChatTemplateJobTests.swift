// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import TestSupport
import Testing

/// Chat templates of jobs, from the file to the checkpoint.
@Suite("Chat templates in jobs", .serialized)
struct ChatTemplateJobTests {
    private static let rows = """
        {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
        {"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "yo"}]}
        """

    /// A model whose files name `<|endoftext|>` as its end, as base models' do, and a job that trains it.
    private func bench(_ settings: String) throws -> Workbench {
        let bench = try Workbench("template")
        try bench.makeModel(layers: 1)
        for name in ["config.json", "generation_config.json"] {
            let url = bench.url("model/\(name)")
            guard let data = try? Data(contentsOf: url) else { continue }
            var object = try #require(try JSONValue(parsing: Array(data)).objectValue)
            object["eos_token_id"] = .integer("3000")
            try bench.write("model/\(name)", JSONValue.object(object).pythonText)
        }
        try bench.write("rows.jsonl", Self.rows)
        try bench.write(
            "job.yaml",
            """
            kind: train
            name: base
            method: sft
            model: {path: model, compute: fp32}
            data: {path: rows.jsonl}
            steps: 1
            rows_per_step: 2
            optimizer: {learning_rate: 1.0e-3, warmup_steps: 0}
            checkpoint: {every: 1}
            resources: {kv_cache_bytes: 16MiB}
            output: out
            \(settings)
            """)
        return bench
    }

    @Test("a base model is trained on all turns with a job's template, and the checkpoint has template and end of turn")
    func baseModel() throws {
        let bench = try bench("assistant_only_loss: true\nchat_template: mine.jinja")
        let text = try String(contentsOf: Fixtures.url("jinja/templates/ponder.jinja"), encoding: .utf8)
        try bench.write("mine.jinja", text)
        let result = try bench.apus("run", "job.yaml", "--workers", "1")
        try #require(result.status == 0, "\(result.errors)\(result.output)")
        #expect(try String(contentsOf: bench.url("out/model/chat_template.jinja"), encoding: .utf8) == text)
        let generation = try JSONValue(
            parsing: Array(try Data(contentsOf: bench.url("out/model/generation_config.json"))))
        #expect(generation["eos_token_id"] == .array([.integer("3000"), .integer("3002")]))
        // The checkpoint renders as it was trained.
        try bench.write("m.json", #"[{"role": "user", "content": "hi"}]"#)
        let rendered = try bench.apus("render", "out/model", "m.json", "--disable-thinking")
        #expect(rendered.output.hasSuffix("<|im_start|>assistant\n<think>\n\n</think>\n\n"), "\(rendered.errors)")
    }

    @Test(
        "a template whose turns cannot be told, or that never ends, is refused when the job is planned",
        arguments: [
            (
                "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>bot\n{% endif %}",
                "does not render a conversation as what follows its prompt"
            ),
            ("{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}", "chat_template: "),
            ("a\n{% if %}", "line 2"),
        ])
    func refused(template: String, words: String) throws {
        let bench = try bench("chat_template: mine.jinja")
        try bench.write("mine.jinja", template)
        let result = try bench.apus("plan", "job.yaml")
        #expect(result.status == 3, "\(result.output)")
        #expect((result.errors + result.output).contains(words), "\(result.errors)\(result.output)")
    }
}
