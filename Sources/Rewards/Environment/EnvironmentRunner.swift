// SPDX-License-Identifier: Apache-2.0

/// The calls of one turn, for the process that runs tools.
package struct EnvironmentRequest: Codable, Equatable, Sendable {
    /// Names the trajectory in messages.
    package let id: String
    package let settings: EnvironmentSettings
    package let state: EnvironmentState
    /// The texts between the call tags, in order.
    package let calls: [String]

    package init(id: String, settings: EnvironmentSettings, state: EnvironmentState, calls: [String]) {
        self.id = id
        self.settings = settings
        self.state = state
        self.calls = calls
    }
}

/// What the calls came to.
package struct EnvironmentReply: Codable, Equatable, Sendable {
    package let id: String
    /// One per call.
    package let observations: [String]
    package let state: EnvironmentState
    /// Set when the machinery failed, not the model: the trajectory has no reward.
    package let failure: String?

    package init(id: String, observations: [String], state: EnvironmentState, failure: String?) {
        self.id = id
        self.observations = observations
        self.state = state
        self.failure = failure
    }
}

/// Runs the calls of trajectories; keeps nothing of them.
struct EnvironmentRunner {
    /// Marks a tool's error as the machinery's.
    static let brokenPrefix = "\u{1}"

    private var tools: [EnvironmentSettings: [String: any EnvironmentTool]] = [:]

    mutating func run(_ request: EnvironmentRequest) -> EnvironmentReply {
        do {
            let tools = try tools(request.settings)
            var state = request.state
            var observations: [String] = []
            for body in request.calls {
                state.callCount += 1
                do throws(ToolError) {
                    let call = try ToolCall(body)
                    guard let tool = tools[call.name] else {
                        throw ToolError(
                            "no tool is named '\(call.name.prefix(80))'; tools: \(tools.keys.sorted().joined(separator: ", "))"
                        )
                    }
                    observations.append(Self.cut(try tool.call(call.arguments, &state), request.settings))
                } catch {
                    if error.description.hasPrefix(Self.brokenPrefix) { throw error }
                    state.invalidCallCount += 1
                    observations.append(Self.cut("error: \(error.description)", request.settings))
                }
            }
            return EnvironmentReply(id: request.id, observations: observations, state: state, failure: nil)
        } catch {
            let text = "\(error)"
            return EnvironmentReply(
                id: request.id, observations: [], state: request.state,
                failure: text.hasPrefix(Self.brokenPrefix) ? String(text.dropFirst()) : text)
        }
    }

    private mutating func tools(_ settings: EnvironmentSettings) throws -> [String: any EnvironmentTool] {
        if let known = tools[settings] { return known }
        var made: [String: any EnvironmentTool] = [:]
        for name in settings.tools { made[name] = try ToolRegistry.tool(name, settings) }
        tools[settings] = made
        return made
    }

    private static func cut(_ text: String, _ settings: EnvironmentSettings) -> String {
        let count = text.utf8.count
        guard count > settings.observationByteCount else { return text }
        var kept = String(decoding: text.utf8.prefix(settings.observationByteCount), as: UTF8.self)
        // What is left of a character that was cut.
        while kept.unicodeScalars.last == "\u{FFFD}" { kept.unicodeScalars.removeLast() }
        return kept + "\n[cut: \(count) bytes in all]"
    }
}
