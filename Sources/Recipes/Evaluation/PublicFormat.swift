// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import RuntimeSupport

/// Forms in which public evaluation sets come as JSON lines. Each becomes `question`, `answer` and what its reward reads;
/// the data themselves are not shipped.
package enum PublicFormat: String, CaseIterable, Sendable {
    /// `question`, `problem` or `prompt` with `answer` or `solution`; or `messages`.
    case plain
    case gsm8k, math, mmlu, gpqa, ifeval, bfcl, zebralogic, belebele, ruler, livecodebench

    /// The reward that such rows are made for.
    package var reward: String {
        switch self {
        case .plain, .gsm8k, .math: "math_answer"
        case .mmlu, .gpqa, .belebele: "multiple_choice"
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
                if let text = row[name] as? String, !text.isEmpty { return text }
                switch row.object[name] {
                case .integer(let text)?, .decimal(let text)?: return text
                default: continue
                }
            }
            throw CurationError("row \(index + 1) has no '\(names[0])'; is it of the form \(rawValue)?")
        }
        switch self {
        case .plain:
            if row["messages"] == nil { result["question"] = try text("question", "problem", "prompt") }
        case .gsm8k:
            result["question"] = try text("question")
            let parts = try text("answer").components(separatedBy: "####")
            result["answer"] = parts.last?.trimmingCharacters(in: .whitespaces).replacingOccurrences(of: ",", with: "")
        case .math:
            result["question"] = try text("problem", "question")
            result["answer"] = try text("answer", "solution")
        case .mmlu:
            guard let choices = row["choices"] as? [String], (2...26).contains(choices.count) else {
                throw CurationError("row \(index + 1) has no list 'choices'; is it of the form mmlu?")
            }
            result = result.merging(Self.choice(try text("question"), choices, answer: try text("answer")))
        case .gpqa:
            let right = try text("Correct Answer")
            let wrong = try (1...3).map { number throws(CurationError) in try text("Incorrect Answer \(number)") }
            // The place of the right one follows from the question, so that it is the same in every run.
            let question = try text("Question")
            let place = Int(Rows.draw(question, salt: "gpqa") * 4)
            var choices = wrong
            choices.insert(right, at: place)
            result = Self.choice(question, choices, answer: "\(place)")
            result["domain"] = row["High-level domain"]
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
            let choices = try (1...4).map { number throws(CurationError) in try text("mc_answer\(number)") }
            let question = try text("flores_passage") + "\n\n" + text("question")
            result = Self.choice(question, choices, answer: "\((Int(try text("correct_answer_num")) ?? 1) - 1)")
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

    /// A question with lettered choices. `answer` is a letter or the place from 0.
    private static func choice(_ question: String, _ choices: [String], answer: String) -> Rows.Row {
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ".map(String.init)
        let lines = zip(letters, choices).map { "\($0). \($1)" }.joined(separator: "\n")
        return [
            "question": "\(question)\n\n\(lines)",
            "answer": Int(answer).flatMap { letters.indices.contains($0) ? letters[$0] : nil } ?? answer,
            "choices": Array(letters.prefix(choices.count)),
        ]
    }
}
