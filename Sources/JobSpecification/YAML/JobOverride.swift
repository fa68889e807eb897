// SPDX-License-Identifier: Apache-2.0

/// One setting given outside the job file: `sampling.top_p=0.9`. The value is YAML, so `stop=["\n\n"]` works.
package struct JobOverride: Equatable, Sendable {
    /// Keys and list indices from the top.
    package let path: [String]
    package let value: YAMLNode
    /// As messages name it.
    package let source: String

    /// Reads `key.path=value`, as given to `--set`.
    /// - Throws: ``JobError`` `malformedOverride`.
    package init(argument: String) throws(JobError) {
        try self.init(argument, source: "--set \(argument)")
    }

    /// A setting that is written in another file, such as a pipeline's.
    /// - Throws: ``JobError`` `malformedOverride`.
    package init(key: String, value: YAMLNode, source: String) throws(JobError) {
        try self.init("\(key)=", source: source, value)
    }

    package func replacingValue(_ value: YAMLNode) -> JobOverride {
        JobOverride(path: path, value: value.replacingOrigin(.override(source)), source: source)
    }

    /// The same setting of another path.
    func replacing(path: [String]) -> JobOverride { JobOverride(path: path, value: value, source: source) }

    /// A default that was found.
    init(path: [String], value: YAMLNode) { self.init(path: path, value: value, source: "the checkpoint") }

    private init(path: [String], value: YAMLNode, source: String) {
        self.path = path
        self.value = value
        self.source = source
    }

    private init(_ text: String, source: String, _ node: YAMLNode? = nil) throws(JobError) {
        guard let equals = text.firstIndex(of: "=") else {
            throw JobError(.malformedOverride, "'\(text)' is not key.path=value")
        }
        let path = text[..<equals].split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        guard path.allSatisfy({ !$0.isEmpty }), (1...8).contains(path.count) else {
            throw JobError(
                .malformedOverride, "'\(text[..<equals])' is not a path of keys such as sampling.top_p")
        }
        let written = String(text[text.index(after: equals)...])
        self.path = path
        self.source = source
        let origin = YAMLNode.Origin.override(source)
        if let node {
            value = node.replacingOrigin(origin)
        } else if written.isEmpty {
            value = YAMLNode(.scalar("", isPlain: true), origin)
        } else {
            do throws(JobError) {
                value = try YAMLNode.parse(written).replacingOrigin(origin)
            } catch {
                throw JobError(.malformedOverride, "\(source): \(error.message)")
            }
        }
    }
}

extension YAMLNode {
    /// This tree with `override` applied: mappings on the way are made where absent; a list is entered by
    /// index.
    /// - Throws: ``JobError`` `malformedOverride` when the path runs through a single value or past a list's
    ///   end.
    package func applying(_ override: JobOverride) throws(JobError) -> YAMLNode {
        try setting(override.path[...], override)
    }

    private func setting(_ path: ArraySlice<String>, _ override: JobOverride) throws(JobError) -> YAMLNode {
        guard let key = path.first else { return override.value }
        let rest = path.dropFirst()
        var result = self
        switch content {
        case .mapping(var entries):
            try YAMLNode.set(key, rest, in: &entries, override)
            result.content = .mapping(entries)
        case .sequence(var values):
            guard let index = Int(key), values.indices.contains(index) else {
                throw JobError(
                    .malformedOverride,
                    "\(override.source): '\(key)' is not an index of the list of \(values.count) items")
            }
            values[index] = try values[index].setting(rest, override)
            result.content = .sequence(values)
        case .scalar:
            guard isNull else {
                throw JobError(
                    .malformedOverride, "\(override.source): '\(key)' is below a single value, \(kind)")
            }
            var entries: [Entry] = []
            try YAMLNode.set(key, rest, in: &entries, override)
            result = YAMLNode(.mapping(entries), .override(override.source))
        }
        return result
    }

    private static func set(
        _ key: String, _ rest: ArraySlice<String>, in entries: inout [Entry], _ override: JobOverride
    ) throws(JobError) {
        let origin = Origin.override(override.source)
        if let index = entries.firstIndex(where: { $0.key == key }) {
            entries[index].value = try entries[index].value.setting(rest, override)
        } else {
            let empty = YAMLNode(.mapping([]), origin)
            entries.append(Entry(key: key, keyOrigin: origin, value: try empty.setting(rest, override)))
        }
    }

    /// This tree with every value said to come from `origin`.
    func replacingOrigin(_ origin: Origin) -> YAMLNode {
        switch content {
        case .scalar: return YAMLNode(content, origin)
        case .sequence(let values):
            return YAMLNode(.sequence(values.map { $0.replacingOrigin(origin) }), origin)
        case .mapping(let entries):
            let moved = entries.map {
                Entry(key: $0.key, keyOrigin: origin, value: $0.value.replacingOrigin(origin))
            }
            return YAMLNode(.mapping(moved), origin)
        }
    }
}
