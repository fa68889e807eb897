// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// The `configs` of a data set's README.md: which files belong to which split of which configuration.
struct DataSetCard {
    struct Configuration {
        let name: String
        let isDefault: Bool
        /// Folder of its files; empty: all.
        let folder: String
        /// Patterns of each split; empty: told by the names of the files.
        let patterns: [(split: String, patterns: [String])]

        func holds(_ file: String) -> Bool { folder.isEmpty || file.hasPrefix(folder + "/") }
    }

    let configurations: [Configuration]

    private static let byteCountMax = 4 << 20

    /// nil where there is no README.md with a front matter.
    /// - Throws: ``JobError`` for a front matter whose configs cannot be read.
    init?(_ root: URL) throws(JobError) {
        let url = root.appendingPathComponent("README.md")
        guard let handle = try? FileHandle(forReadingFrom: url),
            let data = try? handle.read(upToCount: Self.byteCountMax),
            let text = Self.frontMatter(String(decoding: data, as: UTF8.self))
        else { return nil }
        do throws(JobError) { configurations = try Self.read(text) } catch { throw error.inFile(url.path) }
    }

    /// What stands between the first two lines `---`.
    private static func frontMatter(_ text: String) -> String? {
        let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
        guard lines.first?.trimmingCharacters(in: .whitespaces) == "---",
            let end = lines.dropFirst().firstIndex(where: { $0.trimmingCharacters(in: .whitespaces) == "---" })
        else { return nil }
        // Of a long card only this part is needed; the rest holds statistics of every column.
        var kept: [Substring] = []
        var isInside = false
        for line in lines[1..<end] {
            if line.first.map({ $0 != " " && $0 != "-" && $0 != "#" }) ?? false {
                isInside = line.hasPrefix("configs:")
            }
            if isInside { kept.append(line) }
        }
        return kept.isEmpty ? nil : kept.joined(separator: "\n")
    }

    private static func read(_ text: String) throws(JobError) -> [Configuration] {
        guard case .mapping(let entries) = try YAMLNode.parse(text).content,
            let configs = entries.first(where: { $0.key == "configs" })?.value
        else { return [] }
        var result: [Configuration] = []
        for item in try YAMLReader(configs, path: "configs").items(4096) {
            let fields = Self.members(item)
            guard let name = try fields["config_name"]?.text() else { continue }
            let folder = try fields["data_dir"]?.text() ?? ""
            result.append(
                Configuration(
                    name: name, isDefault: try fields["default"]?.boolean() ?? false,
                    folder: folder.hasSuffix("/") ? String(folder.dropLast()) : folder == "." ? "" : folder,
                    patterns: try fields["data_files"].map { reader throws(JobError) in try patterns(reader, folder) }
                        ?? []))
        }
        return result
    }

    private static func members(_ reader: YAMLReader) -> [String: YAMLReader] {
        guard case .mapping(let entries) = reader.node.content else { return [:] }
        return Dictionary(
            entries.map { ($0.key, YAMLReader($0.value, path: "\(reader.path).\($0.key)")) }, uniquingKeysWith: { $1 })
    }

    /// A pattern, a list of patterns, or a list of `{split, path}`.
    private static func patterns(_ reader: YAMLReader, _ folder: String) throws(JobError)
        -> [(split: String, patterns: [String])]
    {
        func texts(_ reader: YAMLReader) throws(JobError) -> [String] {
            guard case .sequence = reader.node.content else { return [try reader.text()] }
            var result: [String] = []
            for item in try reader.items(100_000) { result.append(try item.text()) }
            return result
        }
        guard case .sequence = reader.node.content else { return [(DataSet.trainSplit, try texts(reader))] }
        var result: [(split: String, patterns: [String])] = []
        var bare: [String] = []
        for item in try reader.items(4096) {
            let fields = members(item)
            guard let split = try fields["split"]?.text(), let path = fields["path"] else {
                bare += try texts(item)
                continue
            }
            result.append((split, try texts(path)))
        }
        return result + (bare.isEmpty ? [] : [(DataSet.trainSplit, bare)])
    }
}

/// A pattern of file paths: `*` within one name, `**` across folders, `?`, `[…]` and `{a,b}`.
struct FilePattern {
    private let alternatives: [[Piece]]

    private enum Piece: Equatable {
        case one(Set<Character>, isNegated: Bool)
        case anyInName, anything, anyOne
    }

    init(_ text: String) {
        var text = Substring(text)
        if text.hasPrefix("./") { text = text.dropFirst(2) }
        alternatives = Self.expanded(String(text)).prefix(1024).map { Self.pieces(Array($0)) }
    }

    func matches(_ path: String) -> Bool {
        let characters = Array(path)
        return alternatives.contains { Self.matches($0, characters) }
    }

    private static func expanded(_ text: String) -> [String] {
        guard let open = text.firstIndex(of: "{"), let close = text[open...].firstIndex(of: "}") else { return [text] }
        let choices = text[text.index(after: open)..<close].split(separator: ",", omittingEmptySubsequences: false)
        guard choices.count > 1, choices.count <= 64 else { return [text] }
        let rest = expanded(String(text[text.index(after: close)...]))
        guard rest.count <= 64 else { return [text] }
        return choices.flatMap { choice in rest.map { text[..<open] + choice + $0 } }
    }

    private static func pieces(_ text: [Character]) -> [Piece] {
        var result: [Piece] = []
        var index = 0
        while index < text.count {
            switch text[index] {
            case "*" where index + 1 < text.count && text[index + 1] == "*":
                result.append(.anything)
                index += 2
                // `**/x` also matches x itself.
                if index < text.count, text[index] == "/" { index += 1 }
                continue
            case "*": result.append(.anyInName)
            case "?": result.append(.anyOne)
            case "[":
                guard let close = text[index...].firstIndex(of: "]"), close > index + 1 else { fallthrough }
                var inside = text[(index + 1)..<close]
                let isNegated = inside.first == "!" || inside.first == "^"
                if isNegated { inside = inside.dropFirst() }
                result.append(.one(set(Array(inside)), isNegated: isNegated))
                index = close
            default: result.append(.one([text[index]], isNegated: false))
            }
            index += 1
        }
        return result
    }

    /// Characters of `a-c0-9_`.
    private static func set(_ text: [Character]) -> Set<Character> {
        var result: Set<Character> = []
        var index = 0
        while index < text.count {
            if index + 2 < text.count, text[index + 1] == "-", let low = text[index].asciiValue,
                let high = text[index + 2].asciiValue, low <= high
            {
                for value in low...high { result.insert(Character(Unicode.Scalar(value))) }
                index += 3
            } else {
                result.insert(text[index])
                index += 1
            }
        }
        return result
    }

    /// A table over pieces and characters: time is their product, whatever the pattern.
    private static func matches(_ pieces: [Piece], _ text: [Character]) -> Bool {
        var reached = [Bool](repeating: false, count: text.count + 1)
        reached[0] = true
        for piece in pieces {
            var next = [Bool](repeating: false, count: text.count + 1)
            switch piece {
            case .anything, .anyInName:
                var open = false
                for index in 0...text.count {
                    if index > 0, piece == .anyInName, text[index - 1] == "/" { open = false }
                    open = open || reached[index]
                    next[index] = open
                }
            case .anyOne: for index in text.indices where reached[index] { next[index + 1] = text[index] != "/" }
            case .one(let set, let isNegated):
                for index in text.indices where reached[index] {
                    next[index + 1] = set.contains(text[index]) != isNegated
                }
            }
            reached = next
        }
        return reached[text.count]
    }
}
