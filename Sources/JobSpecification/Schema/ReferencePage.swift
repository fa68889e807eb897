// SPDX-License-Identifier: Apache-2.0

/// The table of keys as a page of Markdown.
package enum ReferencePage {
    /// The page, ending in a newline.
    package static var text: String {
        var lines = [
            "# Job files: every key", "",
            "Made from the table of keys in `Sources/JobSpecification/Schema` by `Scripts/generate-reference`; not written by "
                + "hand. `apus explain` prints the same of one key, `apus plan` every value of a job and where "
                + "it comes from. `job.schema.json` beside this page is the same for editors.", "",
            "A key is required, or has a default. Defaults \"from the checkpoint\" are found from the model's files when the job "
                + "is submitted and written into the run's `job.yaml`; they never depend on a host. Names of TRL and verl stand "
                + "beside the keys that they correspond to; those under \"also\" are accepted, the others are answered with "
                + "the key's name here.", "",
        ]
        let all = JobSchema.all
        let sections: [(title: String, kinds: [JobFileKind])] = [
            ("Jobs: `kind: rollout`, `score`, `train`", [.rollout, .score, .train]),
            ("`kind: pipeline`", [.pipeline]), ("`kind: suite`", [.suite]),
        ]
        for (title, kinds) in sections {
            // Of sections that jobs have as well, the line of the section itself is enough.
            let isKnown = { (place: JobKeyPath) in
                kinds != sections[0].kinds && place.kinds.contains(where: sections[0].kinds.contains)
            }
            let places = all.filter { $0.kinds.contains(where: kinds.contains) }
            lines +=
                ["## \(title)", ""] + header + places.filter { !$0.bare.contains(".") }.map { row($0, kinds) } + [""]
            var heads: [String] = []
            for place in places where !isKnown(place) {
                let head = String(place.path.split(separator: ".")[0])
                if place.bare.contains("."), !heads.contains(head) { heads.append(head) }
            }
            for head in heads {
                let rows = places.filter { !isKnown($0) && $0.path.hasPrefix(head + ".") }.map { row($0, kinds) }
                lines += ["### `\(head)`", ""] + header + rows + [""]
            }
        }
        return lines.joined(separator: "\n")
    }

    private static let header = ["| key | type | default | |", "|---|---|---|---|"]

    private static func row(_ place: JobKeyPath, _ kinds: [JobFileKind]) -> String {
        let key = place.key
        var text = key.sentence
        if case .choice(let values) = key.type {
            let described = values.filter { !$0.sentence.isEmpty }
            if !described.isEmpty {
                text += " " + described.map { "`\($0.name)`: \($0.sentence)" }.joined(separator: "; ") + "."
            }
        }
        let here = place.kinds.filter(kinds.contains)
        if here.count < kinds.count { text += " Of kind \(here.map(\.rawValue).joined(separator: ", "))." }
        if let condition = key.condition, place.kinds.contains(.train) { text += " Of \(condition.description)." }
        let also = key.names.filter(\.isAlias).map { "`\($0.name)`" }
        if !also.isEmpty { text += " Also \(also.joined(separator: ", "))." }
        for source in [ForeignName.Source.trl, .verl] {
            let names = key.names.filter { $0.source == source && !$0.isAlias }
                .map { "`\($0.name)`" + ($0.remark.isEmpty ? "" : " (\($0.remark))") }
            if !names.isEmpty { text += " \(source.rawValue): \(names.joined(separator: ", "))." }
        }
        let type = key.type.brief + bounds(key.type) + (key.unit.isEmpty ? "" : ", \(key.unit)")
        return "| `\(place.path)` | \(escaped(type)) | \(escaped(standard(key))) | \(escaped(text)) |"
    }

    private static func bounds(_ type: KeyType) -> String {
        switch type {
        case .integer(let range):
            range.upperBound == .max ? " ≥ \(range.lowerBound)" : " \(range.lowerBound) to \(range.upperBound)"
        case .number(let interval): " \(interval)"
        default: ""
        }
    }

    private static func standard(_ key: JobKey) -> String {
        switch key.standard {
        case .required: "required"
        case .value(let value): "`\(value.inline)`"
        case .checkpoint(let text, _): "\(text) (from the checkpoint)"
        default: key.standard.description
        }
    }

    private static func escaped(_ text: String) -> String { text.replacing("|", with: "\\|") }
}
