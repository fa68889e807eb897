// SPDX-License-Identifier: Apache-2.0
package import ClusterTransport
package import Foundation

/// What a coordinator process is started with.
package struct CoordinatorConfiguration: Sendable {
    /// Journal, lock and address file live here.
    package var state: URL
    package var listen: ChannelEndpoints
    package var keys: CurveKeyPair
    package var allowList: AllowList
    /// Workers that will come; the first placement waits for them for a while.
    package var expectedWorkerCount: Int

    package init(
        state: URL, listen: ChannelEndpoints, keys: CurveKeyPair, allowList: AllowList, expectedWorkerCount: Int
    ) {
        self.state = state
        self.listen = listen
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

    package init(_ peer: PeerAddress) {
        key = peer.identity.rawValue
        control = peer.endpoints.control
        exchange = peer.endpoints.exchange
        bulk = peer.endpoints.bulk
    }

    package var peer: PeerAddress {
        PeerAddress(
            identity: PeerIdentity(key),
            endpoints: ChannelEndpoints(control: control, exchange: exchange, bulk: bulk))
    }

    package static let fileName = "coordinator.json"

    /// - Throws: what reading and decoding throw.
    package init(file: URL) throws { self = try JSONDecoder().decode(Self.self, from: Data(contentsOf: file)) }
}
