// SPDX-License-Identifier: Apache-2.0
import Foundation
import Parity
import RuntimeSupport
import TestSupport
import Testing

/// Fixture sets differ in what they write down; one case that cannot be read takes no other with it.
@Suite("Parity on other fixture sets")
struct GenericFixturesTests {
    private let root: URL

    init() throws {
        root = FileManager.default.temporaryDirectory.appending(path: "apus-parity-\(UUID())")
        try FileManager.default.createDirectory(at: root, withIntermediateDirectories: true)
    }

    private func copy(_ name: String) throws {
        let target = root.appending(path: name)
        try FileManager.default.createDirectory(
            at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
        try FileManager.default.copyItem(at: Fixtures.url(name), to: target)
    }

    private func edit(_ name: String, _ change: (inout [String: Any]) throws -> Void) throws {
        let url = root.appending(path: name)
        var object = try #require(
            try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
        try change(&object)
        try JSONSerialization.data(withJSONObject: object).write(to: url)
    }

    private func run() throws -> [ParityCase] {
        defer { try? FileManager.default.removeItem(at: root) }
        var cases: [ParityCase] = []
        try ParityRunner.run(root, pool: ComputePool(threadCount: 2)) { cases.append($0) }
        return cases
    }

    @Test("settings of a loss that have TRL's default values may be absent")
    func defaults() throws {
        let values: [String: Any] = [
            "loss_type": "dapo", "level": "token", "beta": 0.0, "epsilon": 0.2, "use_bias_correction_kl": true,
            "grad_accum": 1, "steps_per_generation": 1,
        ]
        try copy("grpo/loss_cases.json")
        try copy("grpo/loss_cases.safetensors")
        var removed: [String: Int] = [:]
        try edit("grpo/loss_cases.json") { file in
            var cases = file["cases"] as! [[String: Any]]
            for index in cases.indices {
                var options = cases[index]["options"] as! [String: Any]
                for (key, value) in values where (options[key] as? NSObject) == (value as? NSObject) {
                    options[key] = nil
                    removed[key, default: 0] += 1
                }
                if options["epsilon"] == nil, options["epsilon_high"] as? Double == 0.2 {
                    options["epsilon_high"] = nil
                }
                cases[index]["options"] = options
                cases[index]["salt"] = nil
            }
            file["cases"] = cases
        }
        for key in ["loss_type", "level", "beta", "epsilon"] { #expect(removed[key, default: 0] > 10, "\(key)") }
        let cases = try run()
        #expect(cases.count == 123 && cases.allSatisfy { $0.passed || $0.isSkipped })
        #expect(cases.count { $0.isSkipped } < 20)
    }

    @Test("a case that cannot be read fails alone and says what it lacks")
    func unreadable() throws {
        for name in ["grpo/loss_cases", "distill/cases", "sampling/cases"] {
            try copy("\(name).json")
            try copy("\(name).safetensors")
            try edit("\(name).json") { file in
                var cases = file["cases"] as! [[String: Any]]
                cases[3]["id"] = nil
                cases[5]["id"] = 9999
                file["cases"] = cases
            }
        }
        try copy("safetensors_files")
        try edit("safetensors_files/verdicts.json") { file in
            var cases = file["cases"] as! [[String: Any]]
            cases[0]["file"] = 3
            file["cases"] = cases
        }
        let cases = try run()
        for kind in ["grpo", "distill", "sampling"] {
            let failed = cases.filter { $0.kind == kind && !$0.passed }
            #expect(failed.count == 2, "\(failed)")
            #expect(failed.contains { $0.detail.contains("'id'") }, "\(failed)")
        }
        #expect(cases.count { $0.kind == "safetensors_files" && !$0.passed } == 1)
        #expect(cases.count > 200)
    }

    @Test("kinds and model families that are not known are said aloud and skipped")
    func unknown() throws {
        try copy("models/dense_tied_bf16")
        try copy("grads/dense_tied_bf16")
        try edit("models/dense_tied_bf16/config.json") { $0["model_type"] = "gemma2" }
        try FileManager.default.createDirectory(at: root.appending(path: "lora"), withIntermediateDirectories: true)
        let cases = try run()
        #expect(cases.allSatisfy { $0.isSkipped })
        #expect(cases.map(\.kind).sorted() == ["grads", "lora", "models"])
        #expect(cases.contains { $0.detail.contains("gemma2") })
    }

    @Test(
        "a whole step knows every form of the loss", arguments: ["dapo", "grpo", "bnpo", "dr_grpo", "cispo", nil])
    func wholeStep(form: String?) throws {
        let name = "grpo/full_dense_dapo_kl"
        try copy(name)
        try copy("models/dense_untied_fp32")
        let batch = try FixtureTensors(Fixtures.url("\(name)/batch.safetensors"))
        let (mask, new) = (try batch.integers("completion_mask"), try batch.floats("per_token_logps"))
        let (old, advantages) = (try batch.floats("old_per_token_logps"), try batch.floats("advantages"))
        let shape = try batch.shape("completion_ids")
        var (sums, counts) = ([Double](repeating: 0, count: shape[0]), [Double](repeating: 0, count: shape[0]))
        for place in mask.indices where mask[place] == 1 {
            let (row, ratio) = (place / shape[1], exp(Double(new[place]) - Double(old[place])))
            let advantage = Double(advantages[row])
            counts[row] += 1
            sums[row] -=
                form == "cispo"
                ? min(ratio, 0.28) * advantage * Double(new[place])
                : min(ratio * advantage, min(max(ratio, 0.8), 1.28) * advantage)
        }
        let total = counts.reduce(0, +)
        let loss =
            switch form {
            case "grpo": zip(sums, counts).reduce(0) { $0 + $1.0 / max($1.1, 1) } / Double(shape[0])
            case "dr_grpo": sums.reduce(0, +) / Double(shape[0] * shape[1])
            default: sums.reduce(0, +) / total
            }
        try edit("\(name)/meta.json") { meta in
            var config: [String: Any] = ["epsilon_high": 0.28, "temperature": 0.9]
            config["loss_type"] = form
            meta["config"] = config
            meta["loss"] = loss
            // The token count stands for it.
            if form == nil { meta["num_items_in_batch"] = nil }
        }
        let cases = try run()
        let found = try #require(cases.first { $0.name.hasSuffix(" loss") })
        #expect(found.passed && abs(loss) > 1e-3, "\(found.detail)")
    }
}
