// SPDX-License-Identifier: Apache-2.0
internal import Yams

extension YAMLNode {
    /// Limits of a job file: far above any sensible job, far below what could hurt the coordinator.
    package enum Limits {
        /// Bytes of one document.
        package static let byteCountMax = 256 << 10
        /// Values in one document after aliases are expanded.
        package static let nodeCountMax = 20_000
        /// Levels of nesting.
        package static let depthMax = 32
    }

    /// Parses one YAML document.
    /// - Throws: ``JobError`` `malformedYAML` with line and column, `limitExceeded`.
    package static func parse(_ text: String) throws(JobError) -> YAMLNode {
        guard text.utf8.count <= Limits.byteCountMax else {
            throw JobError(
                .limitExceeded,
                "has \(text.utf8.count) bytes; the limit of a job file is \(Limits.byteCountMax)")
        }
        try checkNesting(text)
        let node: Node?
        do {
            node = try Yams.compose(yaml: text)
        } catch let error as YamlError {
            throw describe(error)
        } catch {
            throw JobError(.malformedYAML, "is not YAML: \(error)")
        }
        guard let node else { throw JobError(.malformedYAML, "is empty; a job file starts with 'kind:'") }
        var budget = Limits.nodeCountMax
        return try convert(node, depth: 0, budget: &budget)
    }

    /// The parser recurses once per level, so levels are bounded before it sees the text. Counting every
    /// opening bracket and every level of indentation, also in comments and strings, can only overestimate.
    private static func checkNesting(_ text: String) throws(JobError) {
        var flowDepth = 0
        var line = 1
        var indentation = 0
        var atLineStart = true
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\n"): (line, indentation, atLineStart) = (line + 1, 0, true)
            case UInt8(ascii: "["), UInt8(ascii: "{"): (flowDepth, atLineStart) = (flowDepth + 1, false)
            case UInt8(ascii: "]"), UInt8(ascii: "}"):
                (flowDepth, atLineStart) = (max(flowDepth - 1, 0), false)
            // "- - - x" nests without brackets; a dash at the start of a line counts as indentation.
            case UInt8(ascii: " "), UInt8(ascii: "-"), UInt8(ascii: "?"), UInt8(ascii: "\t"):
                if atLineStart { indentation += 1 }
            default: atLineStart = false
            }
            guard flowDepth <= 4 * Limits.depthMax, indentation <= 16 * Limits.depthMax else {
                throw JobError(.limitExceeded, "nested too deeply", line: line)
            }
        }
    }

    private static func convert(_ node: Node, depth: Int, budget: inout Int) throws(JobError) -> YAMLNode {
        let origin = Origin.line(node.mark?.line ?? 1)
        budget -= 1
        guard budget >= 0 else {
            throw JobError(.limitExceeded, "more than \(Limits.nodeCountMax) values", at: origin)
        }
        guard depth <= Limits.depthMax else {
            throw JobError(.limitExceeded, "nested too deeply", at: origin)
        }
        switch node {
        case .scalar(let scalar):
            return YAMLNode(
                .scalar(scalar.string, isPlain: scalar.style == .plain || scalar.style == .any), origin)
        case .sequence(let sequence):
            var values: [YAMLNode] = []
            for value in sequence { values.append(try convert(value, depth: depth + 1, budget: &budget)) }
            return YAMLNode(.sequence(values), origin)
        case .mapping(let mapping):
            var entries: [Entry] = []
            for (key, value) in mapping {
                let keyOrigin = Origin.line(key.mark?.line ?? 1)
                guard case .scalar(let scalar) = key else {
                    throw JobError(.wrongType, "a key must be a word", at: keyOrigin)
                }
                let converted = try convert(value, depth: depth + 1, budget: &budget)
                entries.append(Entry(key: scalar.string, keyOrigin: keyOrigin, value: converted))
            }
            return YAMLNode(.mapping(entries), origin)
        default:
            throw JobError(.malformedYAML, "an alias is not supported here", at: origin)
        }
    }

    private static func describe(_ error: YamlError) -> JobError {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            return JobError(.malformedYAML, "is not YAML: \(problem), column \(mark.column)", line: mark.line)
        case .duplicatedKeysInMapping(let duplicates, let context):
            let names = duplicates.sorted().map { "'\($0)'" }.joined(separator: ", ")
            return JobError(
                .malformedYAML, "the key \(names) occurs twice in one mapping", line: context.mark.line)
        default:
            return JobError(
                .malformedYAML, "is not YAML: \(error)".split(separator: "\n").joined(separator: " "))
        }
    }
}
