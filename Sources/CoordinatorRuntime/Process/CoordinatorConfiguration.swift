// SPDX-License-Identifier: Apache-2.0
package import ClusterTransport
package import Foundation

/// What a coordinator process is started with.
package struct CoordinatorConfiguration: Sendable {
    /// Journal, lock and address file live here.
    package var state: URL
    package var listen: ChannelEndpoints
    /// What is published instead of the address that is listened on.
    package var advertise: String?
    package var keys: CurveKeyPair
    package var allowList: AllowList
    /// Workers that will come; the first placement waits for them for a while.
    package var expectedWorkerCount: Int
    /// Where jobs of `submit` keys may read and write.
    package var submissionRoots: SubmissionRoots

    package init(
        state: URL, listen: ChannelEndpoints, advertise: String? = nil, keys: CurveKeyPair, allowList: AllowList,
        expectedWorkerCount: Int, submissionRoots: SubmissionRoots = SubmissionRoots()
    ) {
        self.submissionRoots = submissionRoots
        self.state = state
        self.listen = listen
        self.advertise = advertise
        self.keys = keys
        self.allowList = allowList
        self.expectedWorkerCount = expectedWorkerCount
    }
}

/// Where a coordinator can be reached, as it publishes it: `coordinator.json` in its state directory.
package struct CoordinatorAddress: Codable, Sendable, Equatable {
    /// Z85 public key.
    package var key: String
    package var control: String
    package var exchange: String
    package var bulk: String
    /// Where the coordinator runs: its loopback addresses are worth nothing elsewhere.
    package var host: String?
    package var network: String?

    package init(_ peer: PeerAddress) {
        key = peer.identity.rawValue
        control = peer.endpoints.control
        exchange = peer.endpoints.exchange
        bulk = peer.endpoints.bulk
        host = peer.place?.host
        network = peer.place?.network
    }

    package var peer: PeerAddress {
        PeerAddress(
            identity: PeerIdentity(key),
            endpoints: ChannelEndpoints(control: control, exchange: exchange, bulk: bulk),
            place: network.map { HostPlace(host: host ?? "another host", network: $0) })
    }

    package static let fileName = "coordinator.json"

    /// - Throws: what reading and decoding throw.
    package init(file: URL) throws { self = try JSONDecoder().decode(Self.self, from: Data(contentsOf: file)) }
}
