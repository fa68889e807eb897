// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
package import Foundation

/// Fixture kind "safetensors_files": accept and refuse exactly the files that the safetensors library does.
package struct SafetensorsParity {
    private let root: URL

    package init(_ root: URL) { self.root = root }

    private struct Verdicts: Decodable {
        struct Case: Decodable {
            struct Verdict: Decodable { let ok: Bool }
            let name: String
            let file: String
            let safe_open: Verdict
        }
        let cases: [Lenient<Case>]
    }

    package func run() throws -> [ParityCase] {
        let file = root.appending(path: "verdicts.json")
        let cases = try JSONDecoder().decode(Verdicts.self, from: Data(contentsOf: file)).cases
        return cases.cases("safetensors_files", name: \.name) { item in
            var verdict = "accepted"
            do { _ = try SafetensorsFile(root.appending(path: item.file)) } catch { verdict = "refused: \(error)" }
            let agrees = (verdict == "accepted") == item.safe_open.ok
            return [
                .identical(
                    "safetensors_files", item.name, mismatches: agrees ? 0 : 1,
                    detail: agrees ? "" : "\(verdict); the library \(item.safe_open.ok ? "accepts" : "refuses") it")
            ]
        }
    }
}
