// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import ClusterTransport
internal import ExpertParallel
internal import RuntimeSupport
internal import SwiftProtobuf

/// Which of the workers that this one was introduced to it has no connection to.
struct PeerLinks {
    private var connected: Set<PeerIdentity> = []
    /// Those that it should reach and does not, and since when.
    private var missing: [PeerIdentity: MonotonicInstant] = [:]
    private var expected: Set<PeerIdentity> = []

    /// A worker was introduced.
    mutating func expect(_ peer: PeerIdentity, _ now: MonotonicInstant) {
        expected.insert(peer)
        if !connected.contains(peer), missing[peer] == nil { missing[peer] = now }
    }

    mutating func note(_ peer: PeerIdentity, isUp: Bool, _ now: MonotonicInstant) {
        if isUp {
            connected.insert(peer)
            missing[peer] = nil
        } else {
            connected.remove(peer)
            if expected.contains(peer), missing[peer] == nil { missing[peer] = now }
        }
    }

    mutating func forget(_ peer: PeerIdentity) {
        expected.remove(peer)
        missing[peer] = nil
    }

    /// Another coordinator introduces everybody anew.
    mutating func forgetPeers() {
        expected = []
        missing = [:]
    }

    /// For the beat.
    func unreachable(_ now: MonotonicInstant) -> [WirePeerWait] {
        missing.sorted { $0.key < $1.key }.map { peer, since in
            .with {
                $0.peer = peer.rawValue
                $0.milliseconds = now.milliseconds(since: since)
                $0.reason = "no connection"
            }
        }
    }
}

extension WireBeat {
    /// Experts that are waited for.
    mutating func note(_ wait: ExchangeWait) {
        guard let peer = wait.peer else { return }
        waits.append(
            .with {
                $0.peer = peer.rawValue
                $0.milliseconds = MonotonicInstant.now.milliseconds(since: wait.since)
                $0.reason = "experts of layer \(wait.layer): \(wait.reason.rawValue)"
                // Experts that move, or an owner that is away, take as long as they take; an answer does not.
                $0.isAnswer = [.answer, .queueFull, .failed].contains(wait.reason)
            })
    }

    /// What is to come from other members of a training epoch.
    mutating func note(_ wait: TrainingWait) {
        for peer in wait.peers {
            waits.append(
                .with {
                    $0.peer = peer.rawValue
                    $0.milliseconds = MonotonicInstant.now.milliseconds(since: wait.since)
                    $0.reason = wait.reason
                })
        }
    }
}
