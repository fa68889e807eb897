// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// Messages as ShareGPT writes them: `{"from": "human", "value": "…"}`.
enum ShareGPT {
    private static let roles = [
        "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
        "model": "assistant", "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool",
        "function_call": "assistant",
    ]

    /// The message with `role` and `content`; one that has them already stays as it is, but for the names of roles.
    static func message(_ object: JSONObject, _ place: String) throws(RowProblem) -> JSONObject {
        guard let from = (object["role"] ?? object["from"])?.stringValue else { return object }
        var members: [JSONObject.Member] = []
        let hasRole = object["role"] != nil
        let hasContent = object["content"] != nil
        for member in object.members {
            switch member.key {
            case "from" where !hasRole, "role": members.append(.init(key: "role", value: .string(roles[from] ?? from)))
            case "value" where !hasContent: members.append(.init(key: "content", value: member.value))
            default: members.append(member)
            }
        }
        var result = JSONObject(members)
        if from == "function_call", let text = result["content"]?.stringValue {
            // The calls are the value, as JSON: one or a list.
            let calls = try ChatMessage.parsed(text, "\(place).value")
            result["content"] = .string("")
            result["tool_calls"] = calls.arrayValue.map { .array($0) } ?? .array([calls])
        }
        return result
    }
}
