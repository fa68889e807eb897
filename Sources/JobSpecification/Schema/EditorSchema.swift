// SPDX-License-Identifier: Apache-2.0

/// The table of keys as a JSON Schema (draft 7), for editors that complete and check YAML.
package enum EditorSchema {
    /// The document, indented, ending in a newline.
    package static var text: String {
        var text = ""
        write(document, into: &text, indentation: 0)
        return text + "\n"
    }

    /// Objects keep their order: an editor shows keys as the table has them.
    private indirect enum Node {
        case text(String)
        case raw(String)
        case list([Node])
        case object([(String, Node)])
    }

    private static var document: Node {
        let kinds = JobFileKind.allCases
        return .object([
            ("$schema", .text("http://json-schema.org/draft-07/schema#")),
            ("title", .text("Apus job file")),
            ("description", .text("Made from the table of keys by Scripts/generate-reference.")),
            ("type", .text("object")),
            ("required", .list([.text("kind")])),
            ("properties", .object([("kind", type(JobSchema.top[0].type, .rollout))])),
            (
                "allOf",
                .list(
                    kinds.map { kind in
                        .object([
                            (
                                "if",
                                .object([
                                    ("properties", .object([("kind", .object([("const", .text(kind.rawValue))]))])),
                                    ("required", .list([.text("kind")])),
                                ])
                            ), ("then", section(JobSchema.keys(of: kind), kind)),
                        ])
                    })
            ),
        ])
    }

    private static func section(_ keys: [JobKey], _ kind: JobFileKind) -> Node {
        let keys = keys.filter { $0.kinds.contains(kind) }
        let required = keys.compactMap { key -> Node? in
            if case .required = key.standard { .text(key.name) } else { nil }
        }
        let properties = keys.flatMap { key -> [(String, Node)] in
            let own = property(key, kind)
            return [(key.name, own)] + key.names.filter(\.isAlias).map { ($0.name, own) }
        }
        // A file's own kind is checked before.
        var members: [(String, Node)] = [("type", .text("object")), ("properties", .object(properties))]
        // A name that stands for a key is as good as the key.
        let aliased = Set(keys.filter { $0.names.contains(where: \.isAlias) }.map(\.name))
        let plain = required.filter { if case .text(let name) = $0 { !aliased.contains(name) } else { true } }
        if !plain.isEmpty { members.append(("required", .list(plain))) }
        members.append(("additionalProperties", .raw("false")))
        return .object(members)
    }

    private static func property(_ key: JobKey, _ kind: JobFileKind) -> Node {
        guard case .object(var members) = type(key.type, kind) else { return .object([]) }
        var text = key.sentence
        if !key.unit.isEmpty { text += " Unit: \(key.unit)." }
        switch key.standard {
        case .value(let value): members.append(("default", .raw(value.json)))
        case .required: break
        default: text += " Default: \(key.standard.description)."
        }
        if case .choice(let values) = key.type {
            let described = values.filter { !$0.sentence.isEmpty }
            if !described.isEmpty {
                text += " " + described.map { "\($0.name): \($0.sentence)" }.joined(separator: "; ") + "."
            }
        }
        members.insert(("description", .text(text)), at: 0)
        return .object(members)
    }

    private static func type(_ type: KeyType, _ kind: JobFileKind) -> Node {
        switch type {
        case .integer(let range):
            var members: [(String, Node)] = [
                ("type", .text("integer")), ("minimum", .raw("\(range.lowerBound)")),
            ]
            if range.upperBound < 1 << 53 { members.append(("maximum", .raw("\(range.upperBound)"))) }
            return orVariable(.object(members), kind)
        case .number(let interval):
            let bounds = [
                (interval.includesLower ? "minimum" : "exclusiveMinimum", interval.lower),
                (interval.includesUpper ? "maximum" : "exclusiveMaximum", interval.upper),
            ]
            return orVariable(
                .object(
                    [("type", .text("number"))] + bounds.map { ($0, .raw(ResolvedValue.number($1).json)) }), kind)
        case .boolean:
            return .object([
                (
                    "enum",
                    .list([.raw("true"), .raw("false")] + ["yes", "no", "on", "off"].map { .text($0) })
                )
            ])
        case .choice(let values):
            // Readers of YAML 1.1 take on and off for truth values.
            let isSwitch = values.contains { $0.name == "on" || $0.name == "off" }
            return .object([
                ("enum", .list(values.map { .text($0.name) } + (isSwitch ? [.raw("true"), .raw("false")] : [])))
            ])
        case .text(let byteCount):
            return .object([
                ("type", .list([.text("string"), .text("number"), .text("boolean")])),
                ("maxLength", .raw("\(byteCount)")),
            ])
        case .path: return .object([("type", .text("string"))])
        case .byteCount:
            return .object([
                (
                    "anyOf",
                    .list([
                        .object([("type", .text("integer")), ("minimum", .raw("0"))]),
                        .object([("type", .text("string")), ("pattern", .text("^[0-9]+ *([KMGT]iB)?$"))]),
                    ])
                )
            ])
        case .section(let keys, let short):
            let whole = section(keys, kind)
            guard let short, let key = keys.first(where: { $0.name == short }) else { return whole }
            return anyOf([whole, self.type(key.type, kind)])
        case .list(let item, let count):
            return .object([
                ("type", .text("array")), ("items", self.type(item, kind)), ("maxItems", .raw("\(count)")),
            ])
        case .oneOrMany(let one, let item, let count):
            return anyOf([self.type(one, kind), self.type(.list(item, count), kind)])
        case .texts(let count):
            return .object([("type", .text("object")), ("maxProperties", .raw("\(count)"))])
        case .either(let types): return anyOf(types.map { self.type($0, kind) })
        case .other: return .object([])
        }
    }

    /// In pipelines and suites a variable may stand for any value.
    private static func orVariable(_ node: Node, _ kind: JobFileKind) -> Node {
        guard kind == .pipeline || kind == .suite else { return node }
        return anyOf([node, .object([("type", .text("string")), ("pattern", .text("\\{[^}]+\\}"))])])
    }

    private static func anyOf(_ nodes: [Node]) -> Node { .object([("anyOf", .list(nodes))]) }

    // MARK: - Text

    private static func write(_ node: Node, into text: inout String, indentation: Int) {
        let margin = String(repeating: " ", count: indentation + 1)
        switch node {
        case .text(let value): text += ResolvedValue.string(value).json
        case .raw(let value): text += value
        case .list(let nodes):
            let isShort = nodes.allSatisfy { if case .object = $0 { false } else { true } }
            text += "["
            for (index, node) in nodes.enumerated() {
                text += (index > 0 ? "," : "") + (isShort ? (index > 0 ? " " : "") : "\n\(margin)")
                write(node, into: &text, indentation: indentation + 1)
            }
            text += isShort ? "]" : "\n\(margin.dropLast())]"
        case .object(let members):
            guard !members.isEmpty else { return text += "{}" }
            text += "{"
            for (index, (key, value)) in members.enumerated() {
                text += (index > 0 ? "," : "") + "\n\(margin)\(ResolvedValue.string(key).json): "
                write(value, into: &text, indentation: indentation + 1)
            }
            text += "\n\(margin.dropLast())}"
        }
    }
}
