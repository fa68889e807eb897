// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol
package import ClusterTransport

/// Who holds which expert, as one worker was told: routes name workers by number, tables by key.
///
/// Tables carry revisions of this process alone, which grow with every change: of routes, of the names behind their
/// numbers, and from one deployment of a model to its next.
package struct RouteBook: Sendable {
    /// The holders of each expert of a model, from now on.
    package struct Table: Sendable, Equatable {
        package let model: UInt32
        package let revision: UInt64
        package let holders: [[PeerIdentity]]
    }

    private var names: [WorkerNumber: PeerIdentity] = [:]
    private var routes: [UInt32: WireRoutes] = [:]
    private var published: [UInt32: [[PeerIdentity]]] = [:]
    private var revision: UInt64 = 0

    package init() {}

    /// The worker with this key; nil when nobody known has it.
    package func number(of peer: PeerIdentity) -> WorkerNumber? {
        names.filter { $0.value == peer }.keys.min()
    }

    /// Whether a key belongs to somebody known.
    package func isKnown(_ peer: PeerIdentity) -> Bool { names.values.contains(peer) }

    /// Keys of everybody known, in order.
    package var peers: [PeerIdentity] { Set(names.values).sorted() }

    /// A coordinator took this worker in: numbers belong to its life, introductions and routes follow. Tables stay as they
    /// are until then.
    package mutating func welcome(as own: WorkerNumber, _ identity: PeerIdentity) {
        names = [own: identity]
        routes = [:]
    }

    package mutating func name(_ worker: WorkerNumber, _ identity: PeerIdentity) -> [Table] {
        names[worker] = identity
        return changes()
    }

    /// A worker is gone: what it held is asked of others at once.
    package mutating func forget(_ worker: WorkerNumber, _ identity: PeerIdentity) -> [Table] {
        guard names[worker] == identity else { return [] }
        names[worker] = nil
        return changes()
    }

    package mutating func take(_ new: WireRoutes) -> [Table] {
        if let known = routes[new.model], known.epoch >= new.epoch { return [] }
        routes[new.model] = new
        return changes()
    }

    /// The model is no longer placed. Its next routes are news whatever their number.
    package mutating func undeploy(_ model: UInt32) {
        routes[model] = nil
        published[model] = nil
    }

    private mutating func changes() -> [Table] {
        routes.keys.sorted().compactMap { model in
            let holders = routes[model]!.holders.map { $0.workers.compactMap { names[$0] } }
            if published[model] == holders { return nil }
            published[model] = holders
            revision += 1
            return Table(model: model, revision: revision, holders: holders)
        }
    }
}
