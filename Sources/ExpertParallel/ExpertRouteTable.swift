// SPDX-License-Identifier: Apache-2.0
package import ClusterTransport
package import RuntimeSupport

/// Where a requester finds an expert.
package enum ExpertOwner: Hashable, Sendable {
    case local
    case peer(PeerIdentity)
}

/// Who holds the experts of one model under one placement epoch, as one requester sees it. All layers are
/// alike.
package struct ExpertRouteTable: Sendable {
    package let epoch: UInt64
    /// For each expert its holders, in the order of the placement; empty while nobody holds it.
    package let holders: [[PeerIdentity]]
    package let requester: PeerIdentity
    /// Spreads requesters over replicas: requester i starts at holder i modulo their number.
    package let requesterIndex: Int

    package init(epoch: UInt64, holders: [[PeerIdentity]], requester: PeerIdentity, requesterIndex: Int = 0) {
        precondition(requesterIndex >= 0, "requester index \(requesterIndex) is negative")
        self.epoch = epoch
        self.holders = holders
        self.requester = requester
        self.requesterIndex = requesterIndex
    }

    package var expertCount: Int { holders.count }

    /// The owner this requester uses: itself where it is a holder, otherwise a holder chosen by its index;
    /// nil when nobody (outside `excluded`) holds the expert. The same table always gives the same answer.
    package func owner(of expert: Int, excluding excluded: Set<PeerIdentity> = []) -> ExpertOwner? {
        let candidates = holders[expert]
        if candidates.contains(requester), !excluded.contains(requester) { return .local }
        for step in candidates.indices {
            let peer = candidates[(requesterIndex + step) % candidates.count]
            if peer != requester, !excluded.contains(peer) { return .peer(peer) }
        }
        return nil
    }
}

/// The current route tables of a process, by model.
package final class ExpertRouting: @unchecked Sendable {
    // @unchecked: `tables` is protected by `lock`.
    private let lock = ConditionLock()
    private var tables: [UInt32: ExpertRouteTable] = [:]

    package init() {}

    /// Makes `table` the current one and wakes waiters; false (and no change) unless its epoch is newer.
    @discardableResult
    package func update(model: UInt32, _ table: ExpertRouteTable) -> Bool {
        lock.withLock {
            if let current = tables[model], current.epoch >= table.epoch { return false }
            tables[model] = table
            lock.broadcast()
            return true
        }
    }

    /// The model is no longer placed; its next table is new whatever its epoch.
    package func remove(model: UInt32) { lock.withLock { tables[model] = nil } }

    package func table(model: UInt32) -> ExpertRouteTable? { lock.withLock { tables[model] } }

    /// Sleeps until the model has a table newer than `epoch` (any table for nil) or the deadline has passed;
    /// nil then.
    package func wait(
        model: UInt32, newerThan epoch: UInt64?, until deadline: MonotonicInstant
    ) -> ExpertRouteTable? {
        lock.withLock {
            while true {
                if let table = tables[model], epoch.map({ table.epoch > $0 }) ?? true { return table }
                if !lock.wait(until: deadline) { return nil }
            }
        }
    }
}
