// SPDX-License-Identifier: Apache-2.0
//
// Between a pool and its children: frames of a 4-byte little-endian length and that many bytes of JSON. The
// child sends a greeting when it is ready, then one reply per request, in order. Before its reply it may ask for programs to be
// run, one after the other.
internal import Foundation

/// One response to be judged by a verifier process.
package struct VerifierRequest: Codable, Equatable, Sendable {
    /// Names the response in messages and ties the reply to the request: `job/group/sibling`.
    package let id: String
    package let terms: [RewardTerm]
    package let sample: RewardSample

    package init(id: String, terms: [RewardTerm], sample: RewardSample) {
        precondition(!terms.isEmpty, "a request for no reward")
        self.id = id
        self.terms = terms
        self.sample = sample
    }
}

/// The judgement of one request, one outcome per term.
struct VerifierReply: Codable, Equatable, Sendable {
    let id: String
    let outcomes: [RewardOutcome]
}

/// What a child is asked.
enum ChildRequest: Codable, Equatable, Sendable {
    case judge(VerifierRequest)
    case act(EnvironmentRequest)
    /// What came of the program that it wanted run.
    case ran(ProgramResult)

    var id: String {
        switch self {
        case .judge(let request): request.id
        case .act(let request): request.id
        case .ran: ""
        }
    }
}

/// What it answers.
enum ChildReply: Codable, Equatable, Sendable {
    case judged(VerifierReply)
    case acted(EnvironmentReply)
    /// No reply yet: a program is to be run first, outside of the child's own sandbox.
    case run(ProgramRun)
}

/// The first frame of a child.
struct VerifierGreeting: Codable, Equatable, Sendable {
    /// Raised with every change of the messages.
    static let version = 3

    let version: Int
    let rewards: [String]
    let tools: [String]

    init() {
        version = Self.version
        rewards = RewardRegistry.names
        tools = ToolRegistry.names
    }
}

enum VerifierFrame {
    /// Bytes of one message: far above any response, far below what could hurt.
    static let byteCountMax = 64 << 20
    static let headerByteCount = 4

    static func header(_ byteCount: Int) -> [UInt8] {
        withUnsafeBytes(of: UInt32(byteCount).littleEndian) { Array($0) }
    }

    /// The length in a header; may be above ``byteCountMax``.
    static func byteCount(_ header: some Sequence<UInt8>) -> Int {
        header.reversed().reduce(0) { $0 << 8 | Int($1) }
    }

    static func encode(_ message: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(message))
    }

    /// nil for anything but the message.
    static func decode<Message: Decodable>(_ type: Message.Type, _ bytes: [UInt8]) -> Message? {
        try? JSONDecoder().decode(type, from: Data(bytes))
    }
}
