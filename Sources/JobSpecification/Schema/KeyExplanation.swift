// SPDX-License-Identifier: Apache-2.0
//
// The table of keys as a terminal shows it: `apus explain`.

/// What the table says of a word: a key, a part of a path, a section, a value, a name of TRL or verl.
package struct KeyExplanation: Sendable {
    /// To print.
    package let lines: [String]

    /// All keys, a line each.
    package init() {
        lines =
            ["The keys of job files; apus explain KEY says more of one.", ""]
            + JobFileKind.allCases.flatMap { kind -> [String] in
                let places = JobSchema.all.filter { $0.kinds.contains(kind) && $0.kinds.first == kind }
                let shared = JobSchema.all.filter { $0.kinds.contains(kind) && $0.kinds.first != kind }
                    .map { $0.path.split(separator: ".")[0] }
                var names: [Substring] = []
                for name in shared where !names.contains(name) && !places.contains(where: { $0.path == name }) {
                    names.append(name)
                }
                return ["kind: \(kind.rawValue)"] + places.map(Self.line)
                    + (names.isEmpty ? [] : ["  and as above: " + names.joined(separator: ", ")]) + [""]
            }
    }

    /// - Returns: nil where the table does not know the word; ``near(_:)`` may.
    package init?(_ word: String) {
        let word = word.hasSuffix(".") ? String(word.dropLast()) : word
        let all = JobSchema.all
        let exact = all.filter { $0.path == word || $0.bare == word }
        let byName = all.filter { $0.key.name == word }
        let foreign = all.filter { place in
            place.key.names.contains { $0.name == word || $0.name.hasSuffix(".\(word)") && word.contains(".") }
        }
        let values = all.compactMap { place -> String? in
            guard case .choice(let values) = place.key.type, let value = values.first(where: { $0.name == word }) else {
                return nil
            }
            return "\(place.path): \(word)\(value.sentence.isEmpty ? "" : "   \(value.sentence)")"
        }
        let named = exact.isEmpty ? byName : exact
        var lines = Self.whole(named)
        let others = foreign.filter { place in !named.contains { $0.path == place.path && $0.kinds == place.kinds } }
        if !others.isEmpty {
            if !lines.isEmpty { lines.append("") }
            lines += others.map { place in
                let other = place.key.names.first { $0.name == word || $0.name.hasSuffix(".\(word)") }!
                return
                    "\(other.name)\(other.source == .other ? "" : " of \(other.source.rawValue)") is \(place.path) here"
                    + (other.remark.isEmpty ? "" : " (\(other.remark))")
            }
            lines += [""] + Self.whole(others)
        }
        if !values.isEmpty {
            if !lines.isEmpty { lines.append("") }
            lines += ["Values:"] + values.map { "  \($0)" }
            if let method = TrainingMethod(rawValue: word) { lines += [""] + Self.keys(of: method) }
        }
        if lines.isEmpty {
            let begun = all.filter { $0.path.hasPrefix(word) || $0.key.name.hasPrefix(word) }
            guard !begun.isEmpty, !word.isEmpty else { return nil }
            lines = begun.map(Self.line)
        }
        self.lines = lines
    }

    /// The key that a misspelt word was meant to be.
    package static func near(_ word: String) -> String? {
        let all = JobSchema.all
        return EditDistance.nearest(to: word, among: all.map(\.bare))
            ?? EditDistance.nearest(to: word, among: all.map(\.key.name))
            ?? EditDistance.nearest(to: word, among: all.flatMap { $0.key.names.map(\.name) })
    }

    /// Keys that a method has or needs beyond those of all training.
    private static func keys(of method: TrainingMethod) -> [String] {
        let only = JobSchema.keys(of: .train).filter { key in
            switch key.condition {
            case .generates?: !method.isSupervised
            case .method(let other)?: other == method
            case nil: false
            }
        }
        let needed: [String] =
            switch method {
            case .grpo: ["reward"]
            case .distill: ["teacher"]
            case .sft, .reward: []
            }
        var lines: [String] = []
        if !needed.isEmpty { lines.append("method: \(method.rawValue) needs \(needed.joined(separator: ", "))") }
        if !only.isEmpty {
            lines.append("keys that not every method has: \(only.map(\.name).joined(separator: ", "))")
        }
        return lines
    }

    // MARK: - Text

    private static func whole(_ places: [JobKeyPath]) -> [String] {
        Array(places.map(whole).joined(separator: [""]))
    }

    private static func whole(_ place: JobKeyPath) -> [String] {
        let key = place.key
        var lines = [
            "\(place.path)   (kind: \(place.kinds.map(\.rawValue).joined(separator: ", ")))", "  \(key.sentence)",
        ]
        func row(_ title: String, _ text: String) {
            lines.append("  " + title + String(repeating: " ", count: max(1, 10 - title.count)) + text)
        }
        row("type", key.type.description + (key.unit.isEmpty ? "" : ", \(key.unit)"))
        if case .choice(let values) = key.type {
            let width = (values.map(\.name.count).max() ?? 0) + 2
            for value in values where !value.sentence.isEmpty {
                lines.append(
                    "            " + value.name + String(repeating: " ", count: width - value.name.count)
                        + value.sentence)
            }
        }
        row("default", key.standard.description)
        if let condition = key.condition, place.kinds.contains(.train) { row("of", condition.description) }
        let accepted = key.names.filter(\.isAlias).map(\.name)
        if !accepted.isEmpty { row("also", accepted.joined(separator: ", ")) }
        for source in [ForeignName.Source.trl, .verl] {
            let names = key.names.filter { $0.source == source && !$0.isAlias }
                .map { $0.name + ($0.remark.isEmpty ? "" : " (\($0.remark))") }
            if !names.isEmpty { row(source.rawValue, names.joined(separator: ", ")) }
        }
        let below = JobSchema.all.filter { $0.path.hasPrefix(place.path + (key.type.isList ? "[]." : ".")) }
            .filter { $0.kinds.contains(where: place.kinds.contains) }
        if !below.isEmpty { lines += ["  keys:"] + below.map { "  " + line($0) } }
        return lines
    }

    private static func line(_ place: JobKeyPath) -> String {
        let name = place.path + String(repeating: " ", count: max(1, 34 - place.path.count))
        return "  \(name)\(place.key.type.brief), \(place.key.standard.brief)"
    }
}

extension KeyType {
    /// In words, with bounds and values.
    package var description: String {
        switch self {
        case .integer(let range):
            range.upperBound == .max
                ? "integer, at least \(range.lowerBound)" : "integer, \(range.lowerBound) to \(range.upperBound)"
        case .number(let interval): "number in \(interval)"
        case .boolean: "true or false"
        case .choice(let values): values.map(\.name).joined(separator: " | ")
        case .text: "text"
        case .path: "path, from the job file's directory (in --set from the current one)"
        case .byteCount: "bytes, such as 4294967296 or 4GiB"
        case .section(_, nil): "section"
        case .section(_, let short?): "section, or its \(short) alone"
        case .list(let item, let count): "list of \(count) at most: \(item.description)"
        case .oneOrMany(_, let item, let count): "\(item.description); or a list of \(count) at most"
        case .texts: "names with values"
        case .either(let types): types.map(\.description).joined(separator: ", or ")
        case .other(let text): text
        }
    }

    var brief: String {
        switch self {
        case .integer: "integer"
        case .number: "number"
        case .path: "path"
        case .byteCount: "bytes"
        case .section: "section"
        case .list: "list"
        case .oneOrMany: "section or list"
        default: description
        }
    }
}

extension KeyDefault {
    /// In words.
    package var description: String {
        switch self {
        case .required: "none, it is required"
        case .none(let text): text
        case .value(let value): value.inline
        case .depends(let text): text
        case .checkpoint(let text, let otherwise):
            "\(text) (from the checkpoint; \(otherwise.inline) where it cannot be looked at)"
        }
    }

    var brief: String {
        switch self {
        case .required: "required"
        case .none: "optional"
        case .value(let value): "default \(value.inline)"
        case .depends: "default depends on other keys"
        case .checkpoint: "default from the checkpoint"
        }
    }
}
