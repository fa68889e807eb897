// SPDX-License-Identifier: Apache-2.0
import Foundation
import RuntimeSupport
import TestSupport
import Testing

@testable import Parity

/// The comparison with pretrained models, on a small one: it passes on transformers' figures and finds planted mistakes.
@Suite("Parity with pretrained models")
struct PretrainedParityTests {
    /// What transformers said of a fixture model, as cases of this kind.
    private func cases() throws -> [String: Any] {
        let reference = try FixtureTensors(Fixtures.url("models/dense_tied_bf16/ref/forward_nopad.safetensors"))
        let shape = try reference.shape("logits")
        let (length, vocabulary) = (shape[1], shape[2])
        let ids = try Array(reference.integers("input_ids").prefix(length)).map(Int.init)
        let logits = try reference.floats("logits")
        var (top, margins, chosen, values): ([Int], [Double], [[Int]], [[Double]]) = ([], [], [], [])
        for position in 0..<length {
            let row = Array(logits[position * vocabulary..<(position + 1) * vocabulary])
            let order = row.indices.sorted { row[$0] > row[$1] }
            top.append(order[0])
            margins.append(Double(row[order[0]] - row[order[1]]))
            chosen.append(Array(order.prefix(3)))
            values.append(order.prefix(3).map { Double(row[$0]) })
        }
        struct GreedyFile: Decodable {
            struct Row: Decodable {
                let prompt: [Int]
                let continuation: [Int]
            }
            let rows: [Row]
        }
        let greedy = try JSONDecoder().decode(
            GreedyFile.self, from: Data(contentsOf: Fixtures.url("models/dense_tied_bf16/ref/greedy.json")))
        return [
            "model": "model", "encodings": [],
            "forward": [
                ["ids": ids, "first": 0, "top": top, "margins": margins, "chosen": chosen, "logits": values]
            ],
            "greedy": [
                [
                    "ids": greedy.rows[0].prompt, "continuation": Array(greedy.rows[0].continuation.prefix(8)),
                    "margin": 0.1,
                ]
            ],
        ]
    }

    private func run(_ cases: [String: Any]) throws -> [String] {
        let root = FileManager.default.temporaryDirectory.appending(path: "apus-pretrained-\(UUID())")
        defer { try? FileManager.default.removeItem(at: root) }
        let directory = root.appending(path: "pretrained/x")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(
            at: directory.appending(path: "model"), withDestinationURL: Fixtures.url("models/dense_tied_bf16"))
        try JSONSerialization.data(withJSONObject: cases).write(to: directory.appending(path: "cases.json"))
        var failed: [String] = []
        try ParityRunner.run(root, only: "pretrained", pool: ComputePool(threadCount: 2)) {
            if !$0.passed || $0.isSkipped { failed.append($0.name) }
        }
        return failed
    }

    @Test("transformers' figures pass")
    func passes() throws {
        #expect(try run(cases()) == [])
    }

    @Test("a logit, a top token, an id and a greedy token that differ are found")
    func mistakes() throws {
        func forward(_ change: (inout [String: Any]) -> Void) throws -> [String: Any] {
            var all = try cases()
            var items = try #require(all["forward"] as? [[String: Any]])
            change(&items[0])
            all["forward"] = items
            return all
        }
        #expect(
            try run(
                forward { item in
                    var logits = item["logits"] as! [[Double]]
                    logits[1][2] += 0.002
                    item["logits"] = logits
                }) == ["x logits"])
        #expect(
            try run(
                forward { item in
                    var top = item["top"] as! [Int]
                    top[0] += 1
                    item["top"] = top
                }) == ["x top tokens"])
        var all = try cases()
        all["encodings"] = [["text": "a", "ids": [9_999]]]
        #expect(try run(all) == ["x token ids"])
        all = try cases()
        var greedy = try #require(all["greedy"] as? [[String: Any]])
        var tokens = try #require(greedy[0]["continuation"] as? [Int])
        tokens[5] += 1
        greedy[0]["continuation"] = tokens
        all["greedy"] = greedy
        #expect(try run(all) == ["x greedy 0"])
    }

    @Test("a model that is not there is skipped aloud")
    func skipped() throws {
        var all = try cases()
        all["model"] = "no-such-model"
        #expect(try run(all) == ["x"])
    }
}
