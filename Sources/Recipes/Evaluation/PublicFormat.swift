// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import JobSpecification
internal import RuntimeSupport

/// Forms in which public evaluation sets come as JSON lines. Each becomes `question`, `answer` and what its reward reads;
/// the data themselves are not shipped.
package enum PublicFormat: String, CaseIterable, Sendable {
    /// Columns as jobs read them: `question`, `problem` or `prompt` with `answer` or `solution`; or `messages`.
    case plain
    case gsm8k, math, math500, aime, mmlu
    case mmluPro = "mmlu_pro"
    case gpqa, ifeval, bfcl, zebralogic, belebele, ruler, livecodebench

    /// The reward that such rows are made for.
    package var reward: String {
        switch self {
        case .plain, .gsm8k, .math, .math500, .aime: "math_answer"
        case .mmlu, .mmluPro, .gpqa, .belebele: "multiple_choice"
        case .ifeval: "instructions"
        case .bfcl: "tool_use"
        case .zebralogic: "json_answer"
        case .ruler: "contains"
        case .livecodebench: "code_tests"
        }
    }

    /// One row in the form of ours. `question` is to be put into a prompt, unless `messages` are there.
    /// - Throws: ``CurationError``: what is missing.
    func read(_ row: Rows.Row, _ index: Int) throws(CurationError) -> Rows.Row {
        var result = row
        func text(_ names: String...) throws(CurationError) -> String {
            for name in names {
                switch RowColumns.key(row.object, name).flatMap({ row.object[$0] }) {
                case .string(let text)? where !text.isEmpty: return text
                case .integer(let text)?, .decimal(let text)?: return text
                default: continue
                }
            }
            throw failure("has no '\(names[0])'; is it of the form \(rawValue)? \(RowColumns.inventory(row.object))")
        }
        func failure(_ text: String) -> CurationError {
            CurationError("row \(row.lineNumber ?? index + 1) \(text)")
        }
        func choices(_ names: String...) throws(CurationError) -> [String] {
            for name in names {
                guard let list = row.object[name]?.arrayValue else { continue }
                let texts = list.compactMap(\.stringValue).map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }
                guard texts.count == list.count, (2...26).contains(texts.count) else {
                    throw failure("has no 2 to 26 texts in '\(name)'")
                }
                return texts
            }
            throw failure("has no list '\(names[0])'; is it of the form \(rawValue)?")
        }
        func choice(_ question: String, _ texts: [String], answer: String) throws(CurationError) -> Rows.Row {
            guard let choice = Self.choice(question, texts, answer: answer) else {
                throw failure("has the answer '\(answer)', which is none of its \(texts.count) choices")
            }
            return choice
        }
        switch self {
        case .plain:
            // Rows with `choices` may be there to be ranked.
            guard RowColumns.key(row.object, "options") == nil, row.object["Correct Answer"] == nil else {
                throw failure("has choices; set format: mmlu, gpqa or what the set is")
            }
            // Messages stay as they are.
            guard row["messages"] == nil, (row["prompt"] as? [Any]) == nil, row["conversations"] == nil else { break }
            result["question"] = try text("question", "problem", "prompt", "query")
            do throws(RowProblem) {
                if let answer = try RowColumns.answer(of: row.object) { result["answer"] = answer.text }
            } catch { throw failure(error.description) }
        case .gsm8k:
            result["question"] = try text("question")
            result["answer"] = RowColumns.final(try text("answer"))
        case .math, .math500, .aime:
            result["question"] = try text("problem", "question")
            result["answer"] = try text("answer", "solution")
            // How the answer was found, and no other answer.
            result["solution"] = nil
        case .mmlu, .mmluPro:
            // MMLU-Pro writes `options`, and its answer as a letter.
            result = result.merging(
                try choice(
                    try text("question"), try choices("choices", "options"), answer: try text("answer", "answer_index"))
            )
            result["options"] = nil
        case .gpqa:
            let right = try text("Correct Answer")
            let wrong = try (1...3).map { number throws(CurationError) in try text("Incorrect Answer \(number)") }
            // The place of the right one follows from the question, so that it is the same in every run.
            let question = try text("Question")
            let place = Int(Rows.draw(question, salt: "gpqa") * 4)
            // White space at a choice's end would tell the right one.
            var texts = wrong.map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }
            texts.insert(right.trimmingCharacters(in: .whitespacesAndNewlines), at: place)
            result = try choice(question, texts, answer: "\(place)")
            result["domain"] = row["High-level domain"]
            result["id"] = row["id"] ?? row["Record ID"]
        case .ifeval:
            result["question"] = try text("prompt")
            result.object["id"] = row.object["key"] ?? row.object["id"]
        case .bfcl:
            // Multi-turn rows hold a list of turns; the first is asked.
            let turns = row["question"] as? [[Rows.Row]]
            guard let messages = turns?.first ?? row["question"] as? [Rows.Row] else {
                throw CurationError("row \(index + 1) has no list 'question'; is it of the form bfcl?")
            }
            result["messages"] = messages
            result["question"] = nil
            let functions = row["function"] as? [Rows.Row] ?? []
            result["tools"] = functions.map { ["type": "function", "function": $0] as Rows.Row }
            let truth = row.object["ground_truth"]?.arrayValue ?? []
            // The first accepted value of each argument.
            result["expected_calls"] = truth.flatMap { $0.objectValue?.members ?? [] }.map { call -> Rows.Row in
                let arguments = (call.value.objectValue?.members ?? []).compactMap { argument in
                    argument.value.arrayValue?.first.map { JSONObject.Member(key: argument.key, value: $0) }
                }
                return ["name": call.key, "arguments": Rows.Row(JSONObject(arguments))]
            }
        case .zebralogic:
            result["question"] = try text("puzzle")
            guard let solution = row["solution"] as? Rows.Row, let head = solution["header"] as? [String],
                let lines = solution["rows"] as? [[String]]
            else { throw CurationError("row \(index + 1) has no 'solution' with header and rows") }
            var grid: [String: [String: String]] = [:]
            for line in lines where line.count == head.count && !line.isEmpty {
                grid["House \(line[0])"] = Dictionary(uniqueKeysWithValues: zip(head.dropFirst(), line.dropFirst()))
            }
            result["answer"] = Rows.json(grid).compactText
        case .belebele:
            let texts = try (1...4).map { number throws(CurationError) in try text("mc_answer\(number)") }
            let question = try text("flores_passage") + "\n\n" + text("question")
            result = try choice(question, texts, answer: "\((Int(try text("correct_answer_num")) ?? 0) - 1)")
            result["language"] = row["dialect"]
        case .ruler:
            result["question"] = try text("input", "question")
            result["expected"] = row["outputs"] ?? row["answer"]
        case .livecodebench:
            result["question"] = try text("question_content")
            let cases = row["public_test_cases"] as? String ?? "[]"
            let tests = ((try? JSONValue(parsing: cases))?.arrayValue ?? []).compactMap(\.objectValue)
            guard !tests.isEmpty else { throw CurationError("row \(index + 1) has no test cases that can be read") }
            result["tests"] = tests.map { ["input": $0["input"] ?? "", "output": $0["output"] ?? ""] as Rows.Row }
        }
        return result
    }

    /// A question with lettered choices; nil where the answer is none of them. `answer` is a letter or the place from 0.
    private static func choice(_ question: String, _ choices: [String], answer: String) -> Rows.Row? {
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ".map(String.init).prefix(choices.count))
        let lines = zip(letters, choices).map { "\($0). \($1)" }.joined(separator: "\n")
        let written = answer.trimmingCharacters(in: .whitespaces).trimmingCharacters(in: ["(", ")", "."]).uppercased()
        guard
            let letter = Int(written).map({ letters.indices.contains($0) ? letters[$0] : "" })
                ?? letters.first(where: { $0 == written }),
            !letter.isEmpty
        else { return nil }
        return ["question": "\(question)\n\n\(lines)", "answer": letter, "choices": letters]
    }
}
