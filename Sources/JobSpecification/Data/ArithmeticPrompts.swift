// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// Arithmetic problems for a first run: the same count and seed give the same bytes on every machine, and
/// problem N does not depend on how many there are.
package struct ArithmeticPrompts: Sendable {
    package let count: Int
    package let seed: UInt64
    package let form: Form

    /// What a row holds.
    package enum Form: String, CaseIterable, Sendable {
        /// `{"answer": …, "id": …, "prompt": …}`: the text as it is, for models without a chat template.
        case prompt
        /// `{"answer": …, "id": …, "messages": […]}`: one user message.
        case messages
    }

    /// Rows of one file at most.
    package static let countMax = 10_000_000

    /// - Throws: ``JobError`` `invalidValue` when `count` is not in 1...``countMax``.
    package init(count: Int, seed: UInt64, form: Form = .prompt) throws(JobError) {
        guard (1...Self.countMax).contains(count) else {
            throw JobError(.invalidValue, "-n \(count) is not in 1...\(Self.countMax)")
        }
        self.count = count
        self.seed = seed
        self.form = form
    }

    /// Problem `index`.
    package func record(_ index: Int) -> PromptRecord {
        precondition((0..<count).contains(index), "problem \(index) of \(count)")
        let (a, b, c, kind) = Philox.block(
            counter: (UInt32(index), 0, 0, 0x6172_6974),
            key: (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32)))
        let (question, answer) = Self.problem(kind: kind, a, b, c)
        let text = "What is \(question)? Put the final answer in \\boxed{}."
        return PromptRecord(
            id: "arithmetic-\(index)",
            content: form == .prompt ? .text(text) : .messages([ChatMessage(role: "user", content: text)]),
            answer: String(answer), lineNumber: index + 1)
    }

    /// Line `index` of the file, without its newline: keys sorted.
    package func line(_ index: Int) -> String {
        let record = record(index)
        guard let answer = record.answer else { preconditionFailure("a generated problem has an answer") }
        let start = "{\"answer\":\(Self.quoted(answer)),\"id\":\(Self.quoted(record.id)),"
        switch record.content {
        case .text(let text): return "\(start)\"prompt\":\(Self.quoted(text))}"
        case .messages(let messages):
            let texts = messages.map {
                "{\"content\":\(Self.quoted($0.content)),\"role\":\(Self.quoted($0.role))}"
            }
            return "\(start)\"messages\":[\(texts.joined(separator: ","))]}"
        }
    }

    /// Writes all lines; an existing file is replaced.
    /// - Throws: ``JobError`` `fileSystem`.
    package func write(to url: URL) throws(JobError) {
        do {
            try Data().write(to: url)
            let handle = try FileHandle(forWritingTo: url)
            defer { try? handle.close() }
            var start = 0
            while start < count {
                let end = min(start + 4096, count)
                let lines = (start..<end).map { line($0) + "\n" }.joined()
                try handle.write(contentsOf: Data(lines.utf8))
                start = end
            }
        } catch {
            throw JobError(.fileSystem, "cannot be written: \(failureReason(error))", file: url.path)
        }
    }

    private static func problem(kind: UInt32, _ a: UInt32, _ b: UInt32, _ c: UInt32) -> (String, Int) {
        let (x, y, z) = (below(100, a), below(100, b), below(10, c) + 2)
        switch below(4, kind) {
        case 0: return ("\(x) + \(y)", x + y)
        case 1: return ("\(x) - \(y)", x - y)
        case 2: return ("\(x) * \(z)", x * z)
        default: return ("(\(x) + \(y)) * \(z)", (x + y) * z)
        }
    }

    /// 0..<bound by the high half of a product; the bias is below 2^-25 here.
    private static func below(_ bound: UInt64, _ word: UInt32) -> Int { Int((UInt64(word) * bound) >> 32) }

    /// The problems hold printable ASCII only, so two escapes are all there is.
    private static func quoted(_ text: String) -> String {
        let escaped = text.map { $0 == "\\" || $0 == "\"" ? "\\\($0)" : String($0) }.joined()
        return "\"\(escaped)\""
    }
}
