// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// The verifier process: judges what it is sent, and runs tools, until its input ends. It keeps no state between requests, so
/// it can be killed at any time.
package enum VerifierChild {
    /// Serves requests.
    /// - Parameters:
    ///   - input: frames of ``ChildRequest``.
    ///   - output: a greeting, then frames of replies.
    /// - Returns: the exit status: 0 at the end of input, 1 for a broken descriptor, 2 for a frame that is no
    ///   request.
    package static func run(input: Int32, output: Int32) -> Int32 {
        guard let greeting = try? VerifierFrame.encode(VerifierGreeting()), write(greeting, output) else {
            return 1
        }
        var environments = EnvironmentRunner()
        /// Has the parent run a program; the process ends where the parent is gone.
        @Sendable func ask(_ run: ProgramRun) -> ProgramResult {
            guard let bytes = try? VerifierFrame.encode(ChildReply.run(run)), write(bytes, output) else { exit(1) }
            guard case .success(.ran(let result)) = receive(input) else { exit(2) }
            return result
        }
        ProgramRunner.ask(ask)
        while true {
            let request: ChildRequest
            switch receive(input) {
            case .success(let received): request = received
            case .failure(let end): return end.status
            }
            let reply: ChildReply
            switch request {
            case .judge(let request): reply = .judged(self.reply(to: request))
            case .act(let request): reply = .acted(environments.run(request))
            case .ran: return 2
            }
            guard let bytes = try? VerifierFrame.encode(reply), write(bytes, output) else { return 1 }
        }
    }

    private struct InputEnd: Error { let status: Int32 }

    private static func receive(_ input: Int32) -> Result<ChildRequest, InputEnd> {
        guard let header = read(VerifierFrame.headerByteCount, input) else { return .failure(InputEnd(status: 1)) }
        if header.isEmpty { return .failure(InputEnd(status: 0)) }
        let byteCount = VerifierFrame.byteCount(header)
        guard header.count == VerifierFrame.headerByteCount, byteCount <= VerifierFrame.byteCountMax,
            let body = read(byteCount, input), body.count == byteCount,
            let request = VerifierFrame.decode(ChildRequest.self, body)
        else { return .failure(InputEnd(status: 2)) }
        return .success(request)
    }

    private static func reply(to request: VerifierRequest) -> VerifierReply {
        do throws(RewardOptionError) {
            return VerifierReply(
                id: request.id, outcomes: try RewardSum(request.terms).evaluate(request.sample).outcomes)
        } catch {
            let outcome = RewardOutcome.infrastructureError(reason: error.description)
            return VerifierReply(id: request.id, outcomes: request.terms.map { _ in outcome })
        }
    }

    /// Exactly `count` bytes, fewer at the end of input; nil for an error.
    private static func read(_ count: Int, _ descriptor: Int32) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var filled = 0
        while filled < count {
            let got = bytes.withUnsafeMutableBytes { buffer in
                Glibc.read(descriptor, buffer.baseAddress.map { $0 + filled }, count - filled)
            }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { return nil }
            if got == 0 { return Array(bytes[..<filled]) }
            filled += got
        }
        return bytes
    }

    private static func write(_ body: [UInt8], _ descriptor: Int32) -> Bool {
        let bytes = VerifierFrame.header(body.count) + body
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                Glibc.write(descriptor, buffer.baseAddress.map { $0 + written }, bytes.count - written)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            written += count
        }
        return true
    }
}
