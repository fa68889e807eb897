// SPDX-License-Identifier: Apache-2.0

/// What a job file's rewards are checked against.
struct RewardCheck {
    let names: [String]
    let problem: RewardProblem
}

/// One reward function of a job, by its registry name.
package struct RewardSection: Equatable, Sendable {
    package let name: String
    /// Factor in the sum over functions.
    package let weight: Double
    /// Options of the function as written; the registry reads them.
    package let options: [String: String]

    /// Reads `reward:`, one name, one mapping or a list of either.
    static func list(_ reader: YAMLReader, _ check: RewardCheck?) throws(JobError) -> [RewardSection] {
        guard case .sequence = reader.node.content else { return [try RewardSection(reader, check)] }
        var result: [RewardSection] = []
        for item in try reader.items() {
            let reward = try RewardSection(item, check)
            // Records name rewards by function, so one function cannot occur with two sets of options.
            guard !result.contains(where: { $0.name == reward.name }) else {
                throw item.error(.invalidValue, "'\(reward.name)' occurs twice; use its weight")
            }
            result.append(reward)
        }
        guard !result.isEmpty else { throw reader.error(.invalidValue, "is an empty list") }
        return result
    }

    private init(_ reader: YAMLReader, _ check: RewardCheck?) throws(JobError) {
        let nameReader: YAMLReader
        if case .mapping(let entries) = reader.node.content {
            let names = JobSchema.reward.map(\.name)
            if let stray = entries.first(where: { !names.contains($0.key) }),
                entries.contains(where: { $0.key == "name" }),
                EditDistance.nearest(to: stray.key, among: names) == nil
            {
                throw JobError(
                    .unknownKey,
                    "\(reader.path): unknown key '\(stray.key)'; options of the function stand below options: "
                        + "{\(stray.key): …}", at: stray.keyOrigin)
            }
            let fields = try reader.fields(JobSchema.reward)
            nameReader = try fields.required("name")
            weight = try fields.number("weight")
            let texts = try fields["options"]?.scalarTexts(32) ?? []
            options = Dictionary(texts.map { ($0.name, $0.text) }) { first, _ in first }
        } else {
            nameReader = reader
            weight = 1
            options = [:]
        }
        name = try nameReader.string(byteCountMax: 64)
        guard let check else { return }
        let knownNames = check.names
        guard knownNames.contains(name) else {
            let near = EditDistance.nearest(to: name, among: knownNames)
            let hint =
                near.map { "did you mean '\($0)'?" } ?? "rewards: \(knownNames.joined(separator: ", "))"
            throw nameReader.error(.invalidValue, "unknown reward '\(name)'; \(hint)")
        }
        if let problem = check.problem(name, options) { throw reader.error(.invalidValue, problem) }
    }

    package var resolved: ResolvedValue {
        .section([
            "name": .string(name), "weight": .number(weight),
            "options": options.isEmpty ? nil : .mapping(options.mapValues { .string($0) }),
        ])
    }
}
