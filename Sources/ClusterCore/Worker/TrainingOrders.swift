// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol

/// The orders of a training epoch that a member was given, so that each is carried out once however often it is repeated,
/// and its answer is given as often as it is asked for.
package struct TrainingOrders: Sendable {
    package enum Kind: String, Sendable { case begin, step, apply, snapshot }

    /// What to do with an order.
    package enum Verdict: Sendable {
        case carryOut
        /// It was carried out, and this came of it.
        case answer(WireEnvelope)
        /// It waits or is under way, or it belongs to an epoch that is over.
        case ignore
    }

    private struct Key: Hashable {
        let kind: Kind
        let version: UInt64
    }

    private var epoch: UInt32 = 0
    /// Nil: no answer yet.
    private var orders: [Key: WireEnvelope?] = [:]

    package init() {}

    /// - Parameter version: of the weights that the order is about.
    package mutating func take(_ kind: Kind, epoch: UInt32, version: UInt64) -> Verdict {
        if kind == .begin, epoch > self.epoch {
            self.epoch = epoch
            orders = [:]
        }
        guard epoch == self.epoch else { return .ignore }
        let key = Key(kind: kind, version: version)
        if let known = orders[key] { return known.map { .answer($0) } ?? .ignore }
        // Answers of an earlier version are asked for no more.
        orders = orders.filter { $0.key.version >= version }
        orders[key] = .some(nil)
        return .carryOut
    }

    /// - Parameter answer: nil when the order may be given again.
    package mutating func finish(_ kind: Kind, epoch: UInt32, version: UInt64, _ answer: WireEnvelope?) {
        let key = Key(kind: kind, version: version)
        guard epoch == self.epoch, orders[key] != nil else { return }
        if let answer { orders[key] = .some(answer) } else { orders[key] = nil }
    }

    /// The answer of an order that was carried out.
    package func answer(_ kind: Kind, epoch: UInt32, version: UInt64) -> WireEnvelope? {
        epoch == self.epoch ? orders[Key(kind: kind, version: version)] ?? nil : nil
    }

    /// Epochs up to this one are over.
    package mutating func end(epoch ended: UInt32) {
        guard epoch <= ended else { return }
        epoch = ended + 1
        orders = [:]
    }
}
