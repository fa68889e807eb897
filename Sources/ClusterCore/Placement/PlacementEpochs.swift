// SPDX-License-Identifier: Apache-2.0

/// Numbers of deploys and routes. They grow over the whole life of a cluster, from one deployment of a model to its next
/// and from one coordinator to the next, so that of any two the larger is the newer.
struct PlacementEpochs: Sendable {
    private(set) var last: UInt64 = 0

    /// - Parameter coordinatorEpoch: numbers of a later coordinator are larger than all of an earlier one.
    mutating func begin(coordinatorEpoch: UInt64) { last = max(last, coordinatorEpoch << 32) }

    mutating func next() -> UInt64 {
        last += 1
        return last
    }
}
