// SPDX-License-Identifier: Apache-2.0
package import JobSpecification

/// Finding things in long texts, in the manner of RULER (Hsieh et al. 2024): one needle, several keys, several values of a
/// key, a chain of variables, counting. `length` is in words of the text, or in characters of the tiny style: eight keys with
/// a letter each among digits, `81Dq0042Ab397016?D`,
/// answered by key and letter, `Dq`.
package struct RecallTasks: TaskGenerator {
    package static let name = "recall"
    package static let about = "needles in long texts, in the manner of RULER; reward contains (tiny style: exact)"

    private let kinds: [String]
    private let lengths: ClosedRange<Int>
    private let isTiny: Bool
    private let isDemonstration: Bool

    package init(_ options: TaskOptions) throws(CurationError) {
        try options.requireOnly(["style", "form", "kinds", "length", "length-min"], of: Self.name)
        isTiny = try options.choice("style", ["text", "tiny"]) == "tiny"
        isDemonstration = try options.choice("form", ["prompts", "demonstrations"]) == "demonstrations"
        kinds = try options.texts("kinds", ["needle", "keys", "values", "variables", "count"])
        let most = try options.integer("length", 1...1_000_000, default: isTiny ? 240 : 1000)
        let least = try options.integer("length-min", 1...1_000_000, default: most)
        guard least <= most else { throw CurationError("--option length-min=\(least): more than length, \(most)") }
        lengths = least...most
        if isDemonstration && !isTiny { throw CurationError("--option form=demonstrations: for style=tiny only") }
    }

    package func task(_ random: inout RowRandom) -> GeneratedTask {
        let length = lengths.lowerBound + random.below(lengths.count)
        return isTiny ? table(length, &random) : text(length, &random)
    }

    private func table(_ length: Int, _ random: inout RowRandom) -> GeneratedTask {
        let keys = random.shuffled(Array("ABCDEFGH")).prefix(max(1, min(8, length / 2)))
        let values = keys.map { _ in random.pick(Array("abcmrstp")) }
        // Entries anywhere among digits; two cells each.
        var cells = (0..<length / 2).map { _ in "\(random.below(10))\(random.below(10))" }
        let places = random.shuffled(Array(cells.indices)).prefix(keys.count)
        for (place, entry) in zip(places, zip(keys, values)) { cells[place] = "\(entry.0)\(entry.1)" }
        let asked = random.below(keys.count)
        let question = cells.joined() + "?\(keys[keys.startIndex + asked]) /no_think"
        let answer = "\(keys[keys.startIndex + asked])\(values[asked])"
        var row: Rows.Row = ["answer": answer, "length": "\(length)"]
        let user = TaskGenerators.user(question)
        row["messages"] = isDemonstration ? user + [["role": "assistant", "content": answer]] : user
        if isDemonstration { row["answer"] = nil }
        return GeneratedTask(key: question, row: row)
    }

    private static let filler = [
        "The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again.",
        "The river runs slowly past the old mill.", "Somebody left the gate open.", "It may rain before evening.",
    ]
    private static let names = [
        "amber", "birch", "cedar", "delta", "ember", "fjord", "glade", "heron", "iris", "jade", "kelp", "lotus",
        "maple",
        "north", "opal", "pine", "quartz", "raven", "slate", "thorn",
    ]

    private func text(_ length: Int, _ random: inout RowRandom) -> GeneratedTask {
        let kind = random.pick(kinds)
        let names = random.shuffled(Self.names)
        func number() -> String { "\(1_000_000 + random.below(9_000_000))" }
        var needles: [String] = []
        var expected: [String] = []
        var question: String
        switch kind {
        case "needle", "keys":
            let pairs = names.prefix(kind == "keys" ? 8 : 1).map { ($0, number()) }
            needles = pairs.map { "The special number of \($0.0) is \($0.1)." }
            expected = [pairs[0].1]
            question = "What is the special number of \(pairs[0].0)?"
        case "values":
            expected = (0..<4).map { _ in number() }
            needles = expected.map { "A special number of \(names[0]) is \($0)." }
            question = "What are all the special numbers of \(names[0])?"
        case "variables":
            let value = number()
            let chain = Array(names.prefix(5))
            needles = ["VAR \(chain[0]) = \(value)."]
            needles += (1..<5).map { "VAR \(chain[$0]) = VAR \(chain[$0 - 1])." }
            needles += names[5..<9].map { "VAR \($0) = \(number())." }
            expected = chain
            question = "Which variables have the value \(value)? Name all of them."
        default:
            let count = 3 + random.below(20)
            needles = Array(repeating: "A \(names[0]) was seen.", count: count)
            needles += Array(repeating: "A \(names[1]) was seen.", count: random.below(12))
            expected = ["\(count)"]
            question = "How many times was a \(names[0]) seen?"
        }
        var sentences = needles
        var words = needles.reduce(0) { $0 + $1.split(separator: " ").count }
        while words < length {
            let sentence = random.pick(Self.filler)
            sentences.append(sentence)
            words += sentence.split(separator: " ").count
        }
        // A chain of variables stays in order; everything else may stand anywhere.
        var order = random.shuffled(Array(sentences.indices))
        if kind == "variables" {
            let places = order.indices.filter { order[$0] < 5 }
            for (index, place) in places.enumerated() { order[place] = index }
        }
        question = order.map { sentences[$0] }.joined(separator: " ") + "\n\n" + question
        return GeneratedTask(
            key: question,
            row: [
                "messages": TaskGenerators.user(question), "expected": expected, "kind": kind, "words": "\(words)",
            ])
    }
}
