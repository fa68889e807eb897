// SPDX-License-Identifier: Apache-2.0

/// A key with the path that leads to it from the top of a file; `[]` follows the name of a list.
package struct JobKeyPath: Sendable {
    /// Such as `sampling.top_p` or `stages[].name`.
    package let path: String
    package let key: JobKey
    /// Kinds of job files that have it there.
    package fileprivate(set) var kinds: [JobFileKind]

    /// The path without the marks of lists.
    package var bare: String { path.replacing("[]", with: "") }
}

extension JobSchema {
    /// The keys at the top of files of `kind`.
    package static func keys(of kind: JobFileKind) -> [JobKey] { top.filter { $0.kinds.contains(kind) } }

    /// Every key at every place, in the order of the table; one entry for all kinds that have it alike.
    package static let all: [JobKeyPath] = flattened(top, "", JobFileKind.allCases).reduce(into: []) { all, place in
        let known = all.firstIndex { $0.path == place.path && $0.key.sentence == place.key.sentence }
        guard let known else { return all.append(place) }
        all[known].kinds += place.kinds.filter { !all[known].kinds.contains($0) }
    }

    private static func flattened(_ keys: [JobKey], _ prefix: String, _ kinds: [JobFileKind]) -> [JobKeyPath] {
        keys.flatMap { key -> [JobKeyPath] in
            let own = key.kinds.filter(kinds.contains)
            guard !own.isEmpty else { return [] }
            let path = prefix + key.name
            return [JobKeyPath(path: path, key: key, kinds: own)]
                + flattened(key.type.keys, path + (key.type.isList ? "[]." : "."), own)
        }
    }

    /// The type at a path of keys and list indices; nil where the table has none.
    static func type(at path: some Sequence<String>, in kind: JobFileKind) -> KeyType? {
        var type = KeyType.section(keys(of: kind))
        for part in path {
            if let key = type.keys.first(where: { $0.name == part && $0.kinds.contains(kind) }) {
                type = key.type
            } else if Int(part) == nil {
                return nil
            }
        }
        return type
    }
}

// MARK: - Names of others

extension JobSchema {
    /// What TRL and verl have and a job file has not, and why.
    private static let absent: [(names: [String], reason: String)] = [
        (["use_vllm", "vllm_mode", "vllm_server_host"], "the cluster generates by itself; remove it"),
        (
            ["max_prompt_length", "data.max_prompt_length"],
            "prompts are never cut; rows that do not fit the context are refused, or left out by data.on_bad_row: skip"
        ),
        (
            [
                "trainer.n_gpus_per_node", "actor_rollout_ref.rollout.tensor_model_parallel_size", "fsdp", "deepspeed",
                "dataloader_num_workers", "ddp_timeout",
            ], "workers are chosen where they are started (--workers, --threads) and change no result; remove it"
        ),
        (
            ["report_to", "logging_steps", "logging_dir", "trainer.logger", "log_completions"],
            "every step is in metrics.jsonl and as TensorBoard events, responses in rollouts/text.jsonl; remove it"
        ),
        (
            ["eval_strategy", "eval_steps", "do_eval", "data.val_files", "trainer.test_freq"],
            "evaluation is a file of its own, kind: suite"
        ),
        (
            ["packing", "use_liger_kernel", "padding_free"],
            "sequences are packed into cells without padding; remove it"
        ),
        (["push_to_hub", "hub_model_id"], "apus model export writes what a hub takes; remove it"),
        (["peft_config", "lora_r", "lora_alpha", "use_peft"], "all weights are trained; there is no LoRA"),
        (["tokenizer", "processing_class"], "the tokenizer is the checkpoint's; remove it"),
    ]

    /// What `name` below the section at `path` is called here; nil where nothing is known of it.
    ///
    /// - Parameter inner: paths of keys below it, where it is a section of its own.
    static func hint(_ name: String, inner: [String], at path: String, kinds: [JobFileKind]) -> String? {
        let isHere = { (place: JobKeyPath) in place.kinds.contains(where: kinds.contains) }
        let full = path.isEmpty ? name : "\(path).\(name)"
        // verl's names are paths, written as such or nested; TRL's are words.
        let below = inner.map { "\(full).\($0)" } + inner.map { "\(name).\($0)" }
        for written in below + [full, name] {
            for place in all where isHere(place) && place.bare != full {
                for other in place.key.names where matches(other, written) {
                    let target =
                        place.bare.hasPrefix(path + ".") ? String(place.bare.dropFirst(path.count + 1)) : place.path
                    return "\(written) is \(target) here" + (other.remark.isEmpty ? "" : " (\(other.remark))")
                }
            }
            for entry in absent where entry.names.contains(written) { return "\(written): \(entry.reason)" }
        }
        // The right name in the wrong place.
        let places = all.filter { isHere($0) && $0.key.name == name && $0.bare != full }.map(\.path)
        guard let first = places.first, places.count <= 4, name.count > 3 else { return nil }
        return places.count == 1 ? "it is \(first) here" : "there are \(places.joined(separator: ", "))"
    }

    /// Whether `written` names it: the name, or of verl's paths the last two words at least.
    private static func matches(_ other: ForeignName, _ written: String) -> Bool {
        if other.name == written { return true }
        return other.source == .verl && written.contains(".") && other.name.hasSuffix(".\(written)")
            || other.source == .verl && verlWords[written] == other.name
    }

    /// Last words of verl's paths that no two paths share and that are no keys here.
    private static let verlWords: [String: String] = {
        let own = Set(all.map(\.key.name))
        var words: [String: Set<String>] = [:]
        for place in all {
            for other in place.key.names where other.source == .verl {
                guard let word = other.name.split(separator: ".").last.map(String.init), !own.contains(word) else {
                    continue
                }
                words[word, default: []].insert(other.name)
            }
        }
        return words.compactMapValues { $0.count == 1 ? $0.first : nil }
    }()
}

// MARK: - Trees of YAML

extension YAMLNode {
    /// This tree with accepted names of others replaced by the keys they mean, as the table of `type` has it.
    /// - Throws: ``JobError`` where a key has both names.
    func canonical(_ type: KeyType, _ kind: JobFileKind, path: String = "") throws(JobError) -> YAMLNode {
        var result = self
        switch content {
        case .scalar: break
        case .sequence(let items):
            guard let item = type.item else { break }
            var values: [YAMLNode] = []
            for (index, value) in items.enumerated() {
                values.append(try value.canonical(item, kind, path: "\(path)[\(index)]"))
            }
            result.content = .sequence(values)
        case .mapping(var entries):
            let keys = type.keys.filter { $0.kinds.contains(kind) }
            for index in entries.indices {
                let written = entries[index].key
                let key =
                    keys.first { $0.name == written }
                    ?? keys.first { $0.names.contains { $0.isAlias && $0.name == written } }
                guard let key else { continue }
                if key.name != written {
                    guard !entries.contains(where: { $0.key == key.name }) else {
                        throw JobError(
                            .invalidValue,
                            "\(path.isEmpty ? "" : "\(path): ")'\(written)' and '\(key.name)' are one key; "
                                + "keep one", at: entries[index].keyOrigin)
                    }
                    entries[index].key = key.name
                }
                entries[index].value = try entries[index].value.canonical(
                    key.type, kind, path: path.isEmpty ? key.name : "\(path).\(key.name)")
            }
            result.content = .mapping(entries)
        }
        return result
    }

    /// This tree with its paths made whole; each knows from its origin what it counts from.
    func resolvingPaths(_ type: KeyType, _ kind: JobFileKind, _ bases: BaseDirectories) -> YAMLNode {
        var result = self
        switch (content, type) {
        case (.scalar(let text, let isPlain), .path):
            // An empty or null value stays what it is, and whoever reads it complains.
            guard !isNull, !text.isEmpty else { break }
            result.content = .scalar(bases.whole(text, origin), isPlain: isPlain)
        case (.scalar, _):
            guard let short = type.short else { break }
            return resolvingPaths(short.type, kind, bases)
        case (.sequence(let items), _):
            guard let item = type.item else { break }
            result.content = .sequence(items.map { $0.resolvingPaths(item, kind, bases) })
        case (.mapping(var entries), _):
            let keys = type.keys.filter { $0.kinds.contains(kind) }
            for index in entries.indices {
                guard let key = keys.first(where: { $0.name == entries[index].key }) else { continue }
                entries[index].value = entries[index].value.resolvingPaths(key.type, kind, bases)
            }
            result.content = .mapping(entries)
        }
        return result
    }
}

extension KeyType {
    /// Of a list's items; nil where there is no list.
    var item: KeyType? {
        switch self {
        case .list(let item, _), .oneOrMany(_, let item, _): item
        default: nil
        }
    }

    /// The key that a single value in a section's place stands for.
    var short: JobKey? {
        switch self {
        case .section(let keys, let short?): keys.first { $0.name == short }
        case .oneOrMany(let one, _, _): one.short
        default: nil
        }
    }
}

extension JobOverride {
    /// The same with the keys of the table: accepted names of others replaced, and a single value for a section such as
    /// `model=DIRECTORY` set to the key that it stands for, so that the section keeps its other keys.
    func canonical(_ kind: JobFileKind, over node: YAMLNode) throws(JobError) -> JobOverride {
        var type = KeyType.section(JobSchema.keys(of: kind))
        var keys: [String] = []
        for part in path {
            let known = type.keys.filter { $0.kinds.contains(kind) }
            let key =
                known.first { $0.name == part } ?? known.first { $0.names.contains { $0.isAlias && $0.name == part } }
            keys.append(key?.name ?? part)
            guard let key else {
                // An index enters a list; what is not in the table is complained of when it is read.
                guard Int(part) != nil, let item = type.item else { return replacing(path: path) }
                type = item
                continue
            }
            type = key.type
        }
        let value = try value.canonical(type, kind)
        // Another file or directory keeps what is said of it; another function has other options.
        if case .scalar = value.content, !value.isNull, let short = type.short, case .path = short.type,
            !node.isList(at: keys[...])
        {
            keys.append(short.name)
        }
        return replacing(path: keys).replacingValue(value)
    }
}

extension YAMLNode {
    /// Whether there is a list at the path.
    fileprivate func isList(at path: ArraySlice<String>) -> Bool {
        guard let key = path.first else {
            if case .sequence = content { return true }
            return false
        }
        switch content {
        case .mapping(let entries):
            return entries.first { $0.key == key }?.value.isList(at: path.dropFirst()) ?? false
        case .sequence(let items):
            return Int(key).flatMap { items.indices.contains($0) ? items[$0] : nil }?.isList(at: path.dropFirst())
                ?? false
        case .scalar: return false
        }
    }

    /// This tree with a single value under `name` made the section that it stands for.
    func expandingShort(_ name: String, _ kind: JobFileKind) -> YAMLNode {
        guard case .mapping(var entries) = content, let index = entries.firstIndex(where: { $0.key == name }),
            case .scalar = entries[index].value.content, !entries[index].value.isNull,
            let short = JobSchema.type(at: [name], in: kind)?.short
        else { return self }
        let value = entries[index].value
        entries[index].value = YAMLNode(
            .mapping([Entry(key: short.name, keyOrigin: value.origin, value: value)]), value.origin)
        return YAMLNode(.mapping(entries), origin)
    }
}

extension JobSchema {
    /// A path of a message without the places in lists: `data[1].weight` is `data.weight`.
    static func bare(_ path: String) -> String {
        var result = ""
        var isIndex = false
        for character in path {
            switch character {
            case "[": isIndex = true
            case "]": isIndex = false
            default: if !isIndex { result.append(character) }
            }
        }
        return result
    }
}

extension JobSchema {
    /// Keys at the top of jobs of any kind, each once.
    static let jobTop: [JobKey] = top.reduce(into: []) { keys, key in
        let isJobs = key.kinds.contains { $0 != .pipeline && $0 != .suite }
        if isJobs, !keys.contains(where: { $0.name == key.name }) { keys.append(key) }
    }

    /// Keys of training that methods without responses do not have.
    static let generatingKeys: [String] = keys(of: .train).compactMap { key in
        if case .generates? = key.condition { key.name } else { nil }
    }
}
