// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol
package import ClusterTransport

/// What a worker process is started with.
package struct WorkerConfiguration: Sendable {
    /// Where the coordinator is now; asked again while it does not answer.
    package var coordinator: @Sendable () -> PeerAddress?
    package var listen: ChannelEndpoints
    /// What other workers are told to dial instead of the address that is listened on.
    package var advertise: String?
    package var keys: CurveKeyPair
    package var threadCount: Int
    /// Bytes for weights and caches.
    package var memoryByteCount: UInt64
    /// Threads that wait for verifiers and judges, and as many for tools.
    package var judgeCount: Int
    /// What it can do for jobs that judge responses, and what its operator lets them do.
    package var judging: WireJudgingAbility
    /// Without a word from a coordinator for so many milliseconds the worker ends.
    package var orphanMilliseconds: UInt64
    package var version: String

    package init(
        coordinator: @escaping @Sendable () -> PeerAddress?, listen: ChannelEndpoints, advertise: String? = nil,
        keys: CurveKeyPair, threadCount: Int, memoryByteCount: UInt64, judgeCount: Int = 16,
        judging: WireJudgingAbility = WireJudgingAbility(), orphanMilliseconds: UInt64 = 120_000, version: String
    ) {
        self.coordinator = coordinator
        self.listen = listen
        self.advertise = advertise
        self.keys = keys
        self.threadCount = threadCount
        self.memoryByteCount = memoryByteCount
        self.judgeCount = judgeCount
        self.judging = judging
        self.orphanMilliseconds = orphanMilliseconds
        self.version = version
    }
}
