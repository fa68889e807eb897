// SPDX-License-Identifier: Apache-2.0
import Foundation
import TestSupport
import Testing

/// Pages of Documentation/Reference are what the program says of itself.
@Suite("Reference pages")
struct ReferencePagesTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Documentation/Reference")

    @Test(
        "a page is current",
        arguments: [
            ("job.md", ["explain", "--markdown"]), ("job.schema.json", ["explain", "--json-schema"]),
            ("commands.md", ["reference", "commands"]), ("exit-codes.md", ["reference", "exit-codes"]),
            ("metrics.md", ["reference", "metrics"]),
        ])
    func pages(_ name: String, _ arguments: [String]) throws {
        let bench = try Workbench("reference")
        let result = try bench.apus(arguments, seconds: 60)
        try #require(result.status == 0, "\(result.errors)")
        let written = try String(contentsOf: Self.folder.appendingPathComponent(name), encoding: .utf8)
        #expect(written == result.output, "Documentation/Reference/\(name) is stale: run Scripts/generate-reference")
    }

    @Test("every command of the help is on its page, and apus explain finds what people know")
    func explain() throws {
        let bench = try Workbench("explain")
        let page = try String(contentsOf: Self.folder.appendingPathComponent("commands.md"), encoding: .utf8)
        for command in ["apus run", "apus explain", "apus model init", "apus data arithmetic"] {
            #expect(page.contains("# \(command)\n"), "\(command)")
        }
        let known = try bench.apus("explain", "num_generations", seconds: 60)
        #expect(known.status == 0 && known.output.contains("is group_size here"), "\(known.output)\(known.errors)")
        let list = try bench.apus("explain", seconds: 60)
        #expect(list.status == 0 && list.output.contains("sampling.max_new_tokens"), "\(list.output)")
        let unknown = try bench.apus("explain", "grop_size", seconds: 60)
        #expect(unknown.status == 2 && unknown.errors.contains("did you mean 'group_size'?"), "\(unknown.errors)")
        #expect(try bench.apus("explain", "grpo", "--markdown", seconds: 60).status == 2)
    }

    @Test("every figure of a run is on the page of metrics, and a figure that is not would be found")
    func metrics() throws {
        let page = try String(contentsOf: Self.folder.appendingPathComponent("metrics.md"), encoding: .utf8)
        let names = page.matches(of: /\| `([^`]+)` \|/).map { String($0.output.1) }
        func isKnown(_ figure: String) -> Bool {
            names.contains { name in
                // `<…>` stands for a word; `<by>/<group>` would take anything.
                guard name.contains("<"), !name.hasPrefix("<") else { return name == figure }
                let pattern =
                    "^" + NSRegularExpression.escapedPattern(for: name).replacing(/<[a-z]+>/, with: "[^/]+") + "$"
                return figure.range(of: pattern, options: .regularExpression) != nil
            }
        }
        #expect(isKnown("rewards/exact/mean") && !isKnown("rewards/exact/median") && !isKnown("lose"))
        let bench = try Workbench("metrics")
        try bench.makeModel(layers: 2)
        try bench.makeJob(groups: 2, groupSize: 2, tokens: 8)
        try bench.write(
            "grpo.yaml",
            """
            kind: train
            name: grpo
            method: grpo
            model: model
            data: prompts.jsonl
            steps: 2
            rows_per_step: 2
            updates_per_batch: 2
            group_size: 2
            sampling: {max_new_tokens: 8}
            reward: [math_answer, format]
            loss: {kl_coef: 0.1}
            router_aux_loss_coef: 0.01
            resources: {kv_cache_bytes: 16MiB, page_size: 16}
            output: trained
            """)
        for (file, output) in [("job.yaml", "out"), ("grpo.yaml", "trained")] {
            let run = try bench.apus("run", file, "--workers", "1")
            try #require(run.status == 0, "\(run.errors)")
            for name in ["metrics.jsonl", "timing.jsonl"] {
                for line in bench.text("\(output)/\(name)").split(separator: "\n") {
                    let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                    for figure in try #require(object).keys { #expect(isKnown(figure), "\(output)/\(name): \(figure)") }
                }
            }
        }
    }
}
