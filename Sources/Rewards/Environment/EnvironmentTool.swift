// SPDX-License-Identifier: Apache-2.0

/// What the calls of one trajectory have changed. It travels with every request, so that the process that runs the
/// tools has nothing to lose.
package struct EnvironmentState: Codable, Equatable, Sendable {
    /// Of the key-value store.
    package var values: [String: String] = [:]
    package var callCount = 0
    /// Calls that were malformed, unknown or refused by their tool.
    package var invalidCallCount = 0

    package init() {}
}

/// A tool that a model may call. The same state and arguments give the same observation, on every host.
protocol EnvironmentTool: Sendable {
    /// Name in calls and in job files.
    static var name: String { get }
    /// The function's schema as the chat template takes it, JSON.
    static var schema: String { get }
    /// - Throws: ``ToolError``: the model reads it as the observation.
    func call(_ arguments: ToolArguments, _ state: inout EnvironmentState) throws(ToolError) -> String
}

/// The tools by name.
package enum ToolRegistry {
    private static let types: [any EnvironmentTool.Type] = [
        CalculatorTool.self, KeyValueTool.self, PythonTool.self, SearchTool.self,
    ]

    package static var names: [String] { types.map { $0.name } }

    /// The tool that runs programs.
    package static var programName: String { PythonTool.name }

    /// The list of schemas for the chat template's `tools`, JSON.
    package static func schemas(_ names: [String]) -> String {
        "[" + types.filter { names.contains($0.name) }.map { $0.schema }.joined(separator: ", ") + "]"
    }

    /// - Throws: one line for the person who wrote the job: the corpus cannot be read.
    static func tool(_ name: String, _ settings: EnvironmentSettings) throws -> any EnvironmentTool {
        switch name {
        case CalculatorTool.name: return CalculatorTool()
        case KeyValueTool.name: return KeyValueTool()
        case PythonTool.name: return PythonTool(milliseconds: settings.callMilliseconds)
        case SearchTool.name: return try SearchTool(corpus: settings.corpus ?? "")
        default: throw ToolError("no tool is named '\(name)'; tools: \(names.joined(separator: ", "))")
        }
    }

    /// A function schema whose arguments are all strings but those in `integers`.
    static func schema(_ name: String, _ text: String, _ arguments: [(String, String)], required: [String]) -> String {
        func quoted(_ text: String) -> String { "\"\(text)\"" }
        let properties = arguments.map { argument, text in
            let type = argument == "limit" ? "integer" : "string"
            return "\(quoted(argument)): {\"type\": \(quoted(type)), \"description\": \(quoted(text))}"
        }
        return "{\"type\": \"function\", \"function\": {\"name\": \(quoted(name)), \"description\": \(quoted(text)), "
            + "\"parameters\": {\"type\": \"object\", \"properties\": {\(properties.joined(separator: ", "))}, "
            + "\"required\": [\(required.map(quoted).joined(separator: ", "))]}}}"
    }
}

/// What a job gives its trajectories.
package struct EnvironmentSettings: Codable, Equatable, Hashable, Sendable {
    package var tools: [String]
    /// JSON lines with `text` and perhaps `id` and `title`, for `search`.
    package var corpus: String?
    /// Time of one call; its tool says so when it is over.
    package var callMilliseconds: UInt64
    /// Bytes of one observation; the rest is cut and the model is told.
    package var observationByteCount: Int

    package init(tools: [String], corpus: String?, callMilliseconds: UInt64, observationByteCount: Int) {
        self.tools = tools
        self.corpus = corpus
        self.callMilliseconds = callMilliseconds
        self.observationByteCount = observationByteCount
    }
}
