// SPDX-License-Identifier: Apache-2.0
package import JobSpecification

/// `report:` of a pipeline: tables and curves over its stages' figures, written when the last stage is done.
package enum ReportSection: Equatable, Sendable {
    /// One figure of one stage, in a column of a table: the row's stage, then `suffix`.
    package struct Column: Equatable, Sendable {
        package let title: String
        package let suffix: String
        package let figure: String
    }

    /// A row: a stage's name, or what the names of its evaluations begin with.
    package struct Row: Equatable, Sendable {
        package let title: String
        package let stage: String
        /// Texts of the `beside` columns, such as another report's figures.
        package let beside: [String]
    }

    package struct Point: Equatable, Sendable {
        package let x: Double
        package let stage: String
    }

    package struct NamedStage: Equatable, Sendable {
        package let title: String
        package let stage: String
    }

    /// What is said to be so: two figures of stages, and how they should lie.
    package struct Claim: Equatable, Sendable {
        package enum Relation: String, CaseIterable, Sendable {
            case above = ">"
            case atLeast = ">="
            case below = "<"
            case atMost = "<="

            package func holds(_ left: Double, _ right: Double) -> Bool {
                switch self {
                case .above: left > right
                case .atLeast: left >= right
                case .below: left < right
                case .atMost: left <= right
                }
            }
        }

        /// `factor * stage:figure`, or a number.
        package struct Term: Equatable, Sendable {
            package let factor: Double
            package let stage: String?
            package let figure: String

            func value(_ look: (_ stage: String, _ figure: String) -> Double?) -> Double? {
                guard let stage else { return factor }
                return look(stage, figure).map { $0 * factor }
            }
        }

        package let text: String
        /// The original's own figure.
        package let original: String
        package let left: Term
        package let relation: Relation
        package let right: Term
    }

    /// Whether what the original says is seen here, with the figures.
    case claims(title: String, claims: [Claim])
    case table(title: String, columns: [Column], beside: [String], rows: [Row])
    /// A figure of several stages over a number of each.
    case curve(title: String, axis: String, figure: String, points: [Point])
    /// Every figure whose name begins with `prefix`, such as `language/`, a line each; and the mean over them.
    case groups(title: String, prefix: String, stages: [NamedStage])
    /// Figures of training stages over their steps.
    case training(title: String, stages: [String], figures: [String])

    /// - Throws: ``JobError``.
    static func list(_ reader: YAMLReader, stages: [String]) throws(JobError) -> [ReportSection] {
        var sections: [ReportSection] = []
        for item in try reader.items() { sections.append(try section(item, stages)) }
        return sections
    }

    /// `0.1*rl:cpu_seconds`, `rl-answers:pass@1` or `0.9`.
    private static func term(
        _ reader: YAMLReader, _ text: String, _ known: (YAMLReader, String) throws(JobError) -> String
    ) throws(JobError) -> Claim.Term {
        if let number = Double(text) { return Claim.Term(factor: number, stage: nil, figure: "") }
        let product = text.split(separator: "*", maxSplits: 1).map(String.init)
        let factor = product.count == 2 ? Double(product[0]) : 1
        let name = product.last?.split(separator: ":", maxSplits: 1).map(String.init) ?? []
        guard let factor, name.count == 2 else {
            throw reader.error(.invalidValue, "'\(text)' is no STAGE:FIGURE, NUMBER*STAGE:FIGURE or number")
        }
        return Claim.Term(factor: factor, stage: try known(reader, name[0]), figure: name[1])
    }

    private static func section(_ reader: YAMLReader, _ stages: [String]) throws(JobError) -> ReportSection {
        let fields = try reader.fields(JobSchema.report)
        func known(_ reader: YAMLReader, _ name: String) throws(JobError) -> String {
            guard stages.contains(name) else {
                let near = EditDistance.nearest(to: name, among: stages)
                throw reader.error(
                    .invalidValue, "\(name) is no stage" + (near.map { "; did you mean \($0)?" } ?? ""))
            }
            return name
        }
        func texts(_ reader: YAMLReader) throws(JobError) -> [String] {
            var result: [String] = []
            for item in try reader.items(256) { result.append(try item.text()) }
            return result
        }
        if let title = try fields["table"]?.string() {
            var columns: [Column] = []
            for item in try fields.required("columns").items(32) {
                let parts = try texts(item)
                guard parts.count == 3 else {
                    throw item.error(.invalidValue, "a column is [title, suffix of the stage, figure]")
                }
                columns.append(Column(title: parts[0], suffix: parts[1], figure: parts[2]))
            }
            let beside = try fields["beside"].map { reader throws(JobError) in try texts(reader) } ?? []
            var rows: [Row] = []
            for item in try fields.required("rows").items(256) {
                let parts = try texts(item)
                guard parts.count == 2 + beside.count else {
                    throw item.error(
                        .invalidValue, "a row is [title, stage\(beside.isEmpty ? "" : ", texts of beside")]")
                }
                for column in columns { _ = try known(item, parts[1] + column.suffix) }
                rows.append(Row(title: parts[0], stage: parts[1], beside: Array(parts.dropFirst(2))))
            }
            return .table(title: title, columns: columns, beside: beside, rows: rows)
        }
        if let title = try fields["curve"]?.string() {
            var points: [Point] = []
            for item in try fields.required("points").items(256) {
                let parts = try item.items(2)
                guard parts.count == 2 else { throw item.error(.invalidValue, "a point is [x, stage]") }
                points.append(
                    Point(x: try parts[0].number(.closed(-1e30, 1e30)), stage: try known(item, try parts[1].text())))
            }
            return .curve(
                title: title, axis: try fields["axis"]?.string() ?? "", figure: try fields.required("figure").string(),
                points: points)
        }
        if let title = try fields["groups"]?.string() {
            var named: [NamedStage] = []
            for item in try fields.required("stages").items(32) {
                let parts = try texts(item)
                guard parts.count == 2 else { throw item.error(.invalidValue, "a column is [title, stage]") }
                named.append(NamedStage(title: parts[0], stage: try known(item, parts[1])))
            }
            return .groups(title: title, prefix: try fields.required("prefix").string(), stages: named)
        }
        if let title = try fields["claims"]?.string() {
            var claims: [Claim] = []
            for item in try fields.required("rows").items(256) {
                let parts = try texts(item)
                guard parts.count == 5, let relation = Claim.Relation(rawValue: parts[3]) else {
                    throw item.error(
                        .invalidValue,
                        "a claim is [text, the original's figure, STAGE:FIGURE, one of "
                            + "\(Claim.Relation.allCases.map(\.rawValue).joined(separator: " ")), STAGE:FIGURE or number]"
                    )
                }
                claims.append(
                    Claim(
                        text: parts[0], original: parts[1], left: try term(item, parts[2], known), relation: relation,
                        right: try term(item, parts[4], known)))
            }
            return .claims(title: title, claims: claims)
        }
        let title = try fields.required("training").string()
        let names = try texts(fields.required("stages"))
        for name in names { _ = try known(fields.reader, name) }
        return .training(title: title, stages: names, figures: try texts(fields.required("figures")))
    }
}
