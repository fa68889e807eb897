// SPDX-License-Identifier: Apache-2.0
//
// The settings of a job file are one table: `JobSchema`, whose entries are of the types here. To add a key:
//
//   1. add one entry to the table of its section in JobSchema+Jobs.swift (or +Pipelines.swift);
//   2. read it in the section's initializer by its name, `try fields.integer("name")`, and write it in `resolved`;
//   3. run Scripts/generate-reference.
//
// Bounds, default and allowed values stand in the entry alone. Errors, paths made whole, TRL's and verl's names,
// `apus explain`, the JSON Schema for editors and the reference page come from it.

/// Kinds of job files, values of `kind`.
package enum JobFileKind: String, CaseIterable, Sendable {
    case rollout, score, train, pipeline, suite
}

/// A key of a job file.
package struct JobKey: Sendable {
    package let name: String
    package let type: KeyType
    package let standard: KeyDefault
    /// What it is, in a sentence or two.
    package let sentence: String
    /// Of its values; empty where they have none, or the type says it.
    package let unit: String
    /// Kinds of job files that have it, among those that have its section.
    package let kinds: [JobFileKind]
    /// Jobs that may set it, among those of its kinds.
    package let condition: KeyCondition?
    /// What others call it.
    package let names: [ForeignName]

    init(
        _ name: String, _ type: KeyType, _ standard: KeyDefault, _ sentence: String, unit: String = "",
        in kinds: [JobFileKind] = JobFileKind.allCases, when condition: KeyCondition? = nil, _ names: ForeignName...
    ) {
        self.name = name
        self.type = type
        self.standard = standard
        self.sentence = sentence
        self.unit = unit
        self.kinds = kinds
        self.condition = condition
        self.names = names
    }
}

/// What a key may hold.
package indirect enum KeyType: Sendable {
    /// A value of a choice, with what it means.
    package struct Value: Sendable {
        package let name: String
        package let sentence: String
    }

    case integer(ClosedRange<Int>)
    case number(NumberInterval)
    case boolean
    case choice([Value])
    /// A string of so many bytes at most.
    case text(Int)
    /// A file or directory; where it is relative it counts from the job file, in an override from the current directory.
    case path
    /// A number of bytes, or one with a unit such as 4GiB.
    case byteCount(ClosedRange<Int>)
    /// Keys of their own. `short` is the one that a single value in the section's place stands for.
    case section([JobKey], short: String? = nil)
    /// So many items at most.
    case list(KeyType, Int)
    /// One, or a list of so many at most of the second type.
    case oneOrMany(KeyType, KeyType, Int)
    /// Names of the user's own, so many at most, each with a single value.
    case texts(Int)
    /// What no other type describes, in words.
    case either([KeyType])
    case other(String)

    /// One of the raw values of `Choice`.
    static func choice<Choice: RawRepresentable & CaseIterable & Hashable>(
        _: Choice.Type, _ sentences: [Choice: String] = [:]
    ) -> KeyType where Choice.RawValue == String {
        .choice(Choice.allCases.map { Value(name: $0.rawValue, sentence: sentences[$0] ?? "") })
    }

    /// The keys below; empty where there are none.
    package var keys: [JobKey] {
        switch self {
        case .section(let keys, _): keys
        case .list(let item, _): item.keys
        // The items of a list may have more keys than one alone.
        case .oneOrMany(_, let item, _): item.keys
        case .either(let types): types.flatMap(\.keys)
        default: []
        }
    }

    /// Whether keys below stand in items of a list.
    package var isList: Bool {
        if case .list = self { return true }
        return false
    }
}

/// What a key is when it is not written.
package enum KeyDefault: Sendable {
    case required
    /// Nothing; the words say what that means.
    case none(String)
    case value(ResolvedValue)
    /// Found from other settings, in words.
    case depends(String)
    /// Found from the model's checkpoint, in words; the value where no checkpoint can be looked at.
    case checkpoint(String, otherwise: ResolvedValue)
}

/// What a job must be to have a key.
package enum KeyCondition: Sendable {
    /// Its method generates responses.
    case generates
    case method(TrainingMethod)

    package var description: String {
        switch self {
        case .generates: "methods that generate: grpo, distill on policy"
        case .method(let method): "method \(method.rawValue)"
        }
    }
}

/// The name of a key elsewhere.
package struct ForeignName: Sendable {
    package enum Source: String, Sendable {
        case trl = "TRL"
        case verl
        case other = ""
    }

    package let source: Source
    /// verl's are paths.
    package let name: String
    /// How its meaning differs; empty where it does not.
    package let remark: String
    /// Accepted in the key's place: it means the same, with the same values.
    package let isAlias: Bool

    /// A name in TRL's configurations.
    static func trl(_ name: String, _ remark: String = "") -> ForeignName {
        ForeignName(source: .trl, name: name, remark: remark, isAlias: false)
    }

    /// A path in verl's configuration.
    static func verl(_ name: String, _ remark: String = "") -> ForeignName {
        ForeignName(source: .verl, name: name, remark: remark, isAlias: false)
    }

    /// A name that is accepted beside the key's own, in the same section.
    static func alias(_ name: String, of source: Source = .other) -> ForeignName {
        ForeignName(source: source, name: name, remark: "", isAlias: true)
    }
}
