// SPDX-License-Identifier: Apache-2.0

/// A response cut at its thinking tags.
package struct ThinkingBlock: Equatable, Sendable {
    /// Why a response has no answer part.
    package enum Problem: String, Error, Sendable {
        case unclosed = "the thinking is not closed"
        case missing = "there is no thinking block"
        case repeated = "there is more than one thinking block"
        case textBefore = "there is text before the thinking block"
    }

    /// Text between the tags; nil when there are none.
    package let thinking: String?
    /// Text after the block.
    package let answer: String

    static let openTag = "<think>"
    static let closeTag = "</think>"

    /// Cuts `response`. The opening tag may be part of the prompt, so a response may start inside the block.
    package init(_ response: String, _ expectation: ThinkingExpectation) throws(Problem) {
        let opens = response.ranges(of: Self.openTag)
        let closes = response.ranges(of: Self.closeTag)
        guard opens.count <= 1, closes.count <= 1 else { throw .repeated }
        guard let close = closes.first else {
            guard opens.isEmpty else { throw .unclosed }
            // Without any tag the response may still be the inside of a block that the prompt opened.
            if expectation == .on { throw .missing }
            thinking = nil
            answer = response
            return
        }
        var start = response.startIndex
        if let open = opens.first {
            guard open.upperBound <= close.lowerBound else { throw .unclosed }
            guard response[..<open.lowerBound].allSatisfy(\.isWhitespace) else { throw .textBefore }
            start = open.upperBound
        }
        thinking = String(response[start..<close.lowerBound])
        answer = String(response[close.upperBound...])
    }

    /// What follows the last thinking block, however the response is formed; nothing while a block is open.
    package static func answer(of response: String) -> String {
        let rest = response.ranges(of: closeTag).last.map { response[$0.upperBound...] } ?? response[...]
        return rest.contains(openTag) ? "" : String(rest)
    }

    /// ``answer(of:)`` as chat templates keep it: without the line breaks after the block.
    package static func spoken(of response: String) -> String {
        let answer = answer(of: response)
        return response.contains(closeTag) ? String(answer.drop(while: \.isNewline)) : answer
    }
}

extension StringProtocol {
    /// The characters without white space at both ends.
    var trimmed: String {
        var rest = self[...]
        while rest.first?.isWhitespace == true { rest = rest.dropFirst() }
        while rest.last?.isWhitespace == true { rest = rest.dropLast() }
        return String(rest)
    }
}
