// SPDX-License-Identifier: Apache-2.0

/// Data for thinking-mode fusion (Qwen3 technical report, 4.3): thinking and non-thinking demonstrations in one file, with
/// flags in the user's or the system's turn, some thinking samples without a flag since thinking is the default, and
/// dialogues in which the last flag wins.
package struct ModeFusion: Sendable {
    /// Share of thinking samples that carry no flag.
    package var unflaggedShare = 0.3
    /// Share of flags that stand in a system message instead of the user's.
    package var systemShare = 0.1
    /// Dialogues of two to four turns, beside the single turns.
    package var dialogueCount = 0
    /// Probability of a flag in each turn of a dialogue.
    package var flagShare = 0.6

    /// Shares of tasks (column `task`) among the answers without thinking, such as `translation` 0.2; the other tasks keep
    /// their proportions in what is left. Empty: as the rows are.
    package var taskShares: [String: Double] = [:]

    package init() {}

    package enum Mode: String, Sendable {
        case thinking = "/think"
        case plain = "/no_think"
    }

    /// One query with its answer in each mode that there is.
    private struct Pair {
        var query: String
        var answers: [Mode: Rows.Row] = [:]
    }

    /// - Parameters:
    ///   - rows: demonstrations; those whose last message has `reasoning_content` are thinking ones.
    package func fuse(_ rows: [Rows.Row]) throws -> [Rows.Row] {
        var result: [Rows.Row] = []
        var pairs: [Mode: [Pair]] = [:]
        for (index, row) in try shared(rows).enumerated() {
            guard let messages = row["messages"] as? [Rows.Row], let answer = messages.last,
                answer["role"] as? String == "assistant"
            else { throw CurationError("row \(index + 1): a demonstration has 'messages' that end with the assistant") }
            let thinking = answer["reasoning_content"] as? String ?? ""
            let mode: Mode = thinking.isEmpty ? .plain : .thinking
            let id = Rows.id(row, index)
            let query = Self.flagless(Rows.query(row))
            var fused = row
            fused["messages"] = flagged(Array(messages.dropLast()), id, mode) + [answer]
            result.append(fused)
            pairs[mode, default: []].append(Pair(query: query, answers: [mode: answer]))
        }
        if dialogueCount > 0, pairs.count < 2 {
            throw CurationError("dialogues need demonstrations with thinking and without; give both or --dialogues 0")
        }
        for number in 0..<dialogueCount {
            result.append(dialogue(number, pairs))
        }
        return result
    }

    /// Takes rows away until the tasks have their shares: as many stay as any choice of rows allows, those that draw lowest.
    private func shared(_ rows: [Rows.Row]) throws -> [Rows.Row] {
        guard !taskShares.isEmpty else { return rows }
        let given = taskShares.values.reduce(0, +)
        guard taskShares.values.allSatisfy({ $0 >= 0 }), given <= 1 else {
            throw CurationError("the shares of tasks are negative or more than 1 together")
        }
        var members: [String: [Int]] = [:]
        for (index, row) in rows.enumerated() where Self.isDirect(row) {
            let task = row["task"] as? String ?? ""
            members[taskShares[task] == nil ? "" : task, default: []].append(index)
        }
        if let absent = taskShares.keys.sorted().first(where: { taskShares[$0]! > 0 && members[$0] == nil }) {
            throw CurationError("no answer without thinking has the task '\(absent)' in its column 'task'")
        }
        var shares = taskShares
        shares[""] = 1 - given
        if members[""] == nil { shares = taskShares.mapValues { $0 / given } }
        let total = shares.filter { $0.value > 0 }.map { Double(members[$0.key]?.count ?? 0) / $0.value }.min() ?? 0
        var kept = Set(rows.indices.filter { !Self.isDirect(rows[$0]) })
        for (task, indices) in members {
            let drawn = indices.map { (Rows.draw(Rows.id(rows[$0], $0), salt: "task share"), $0) }.sorted { $0 < $1 }
            kept.formUnion(drawn.prefix(Int((total * (shares[task] ?? 0)).rounded(.down))).map(\.1))
        }
        return rows.indices.filter(kept.contains).map { rows[$0] }
    }

    private static func isDirect(_ row: Rows.Row) -> Bool {
        let answer = (row["messages"] as? [Rows.Row])?.last
        return (answer?["reasoning_content"] as? String ?? "").isEmpty
    }

    private func flagged(_ messages: [Rows.Row], _ id: String, _ mode: Mode) -> [Rows.Row] {
        var messages = messages.map { message -> Rows.Row in
            var message = message
            if let content = message["content"] as? String { message["content"] = Self.flagless(content) }
            return message
        }
        if mode == .thinking, Rows.draw(id, salt: "unflagged") < unflaggedShare { return messages }
        if Rows.draw(id, salt: "system") < systemShare {
            if messages.first?["role"] as? String == "system" {
                messages[0]["content"] = "\(messages[0]["content"] as? String ?? "") \(mode.rawValue)"
            } else {
                messages.insert(["role": "system", "content": mode.rawValue], at: 0)
            }
        } else if let last = messages.lastIndex(where: { $0["role"] as? String == "user" }) {
            messages[last]["content"] = "\(messages[last]["content"] as? String ?? "") \(mode.rawValue)"
        }
        return messages
    }

    /// A conversation of earlier demonstrations: flags fall where they fall, and the answers follow the last one.
    private func dialogue(_ number: Int, _ pairs: [Mode: [Pair]]) -> Rows.Row {
        func draw(_ what: String) -> Double { Rows.draw("\(number)", salt: "dialogue \(what)") }
        let turnCount = 2 + Int(draw("turns") * 3)
        // Thinking is the default until a flag says otherwise.
        var mode = Mode.thinking
        var messages: [Rows.Row] = []
        for turn in 0..<turnCount {
            var flag = ""
            if draw("flag \(turn)") < flagShare {
                mode = draw("mode \(turn)") < 0.5 ? .thinking : .plain
                flag = " \(mode.rawValue)"
            }
            let choices = pairs[mode]!
            let pair = choices[Int(draw("pair \(turn)") * Double(choices.count))]
            messages.append(["role": "user", "content": pair.query + flag])
            messages.append(pair.answers[mode]!)
        }
        return [
            "id": "dialogue-\(number)", "messages": messages, "turns": turnCount,
            "mode": mode == .thinking ? "think" : "no_think",
        ]
    }

    /// Demonstrations as prompts: without the last answer, which becomes the reference.
    package static func prompts(_ rows: [Rows.Row]) -> [Rows.Row] {
        rows.map { row in
            var row = row
            let messages = row["messages"] as? [Rows.Row] ?? []
            row["messages"] = Array(messages.dropLast())
            row["answer"] = messages.last?["content"]
            return row
        }
    }

    /// A text without flags at its end.
    static func flagless(_ text: String) -> String {
        var text = Substring(text)
        while let flag = [" /think", " /no_think", "/think", "/no_think"].first(where: { text.hasSuffix($0) }) {
            text = text.dropLast(flag.count)
        }
        return String(text)
    }
}
