// SPDX-License-Identifier: Apache-2.0
internal import ClusterTransport
internal import Qwen3

/// Who computes which expert for one requester, and in which subtrees, within a scope of experts.
///
/// The scope matters when work is given to other owners in the middle of an exchange: sums of experts outside
/// it may have arrived already, so no new subtree may reach over them.
struct RouteView {
    /// Destination of experts that nobody holds, or that are out of scope.
    static let nobody = -1
    /// Destination of experts in this process; remote owner i is destination i + 1.
    static let local = 0

    let owners: [PeerIdentity]
    /// For each expert its destination.
    let destination: [Int]
    /// For each destination the maximal subtrees of its experts, ascending.
    let subtrees: [[ExpertSubtree]]
    /// For each expert the index of its subtree among its destination's.
    let subtreeIndex: [Int]
    /// For each destination the experts it computes.
    let scopes: [[Bool]]
    /// Experts in scope that nobody holds.
    let orphans: [Bool]
    let isAllLocal: Bool

    /// - Parameters:
    ///   - scope: experts to place; nil for all.
    ///   - owner: the owner of an expert.
    init(expertCount: Int, scope: [Bool]?, owner: (Int) -> ExpertOwner?) {
        var owners: [PeerIdentity] = []
        var index: [PeerIdentity: Int] = [:]
        var destination = [Int](repeating: Self.nobody, count: expertCount)
        var orphans = [Bool](repeating: false, count: expertCount)
        for expert in 0..<expertCount where scope?[expert] ?? true {
            switch owner(expert) {
            case nil: orphans[expert] = true
            case .local: destination[expert] = Self.local
            case .peer(let peer):
                if index[peer] == nil {
                    owners.append(peer)
                    index[peer] = owners.count
                }
                destination[expert] = index[peer]!
            }
        }
        var subtreeIndex = [Int](repeating: 0, count: expertCount)
        scopes = (0...owners.count).map { place in destination.map { $0 == place } }
        subtrees = scopes.map { scope in
            let owned = Set(scope.indices.filter { scope[$0] })
            return ExpertSubtree.maximal(owned: owned, expertCount: expertCount)
        }
        for list in subtrees {
            for (place, subtree) in list.enumerated() {
                for expert in subtree.first..<min(subtree.first + subtree.size, expertCount) {
                    subtreeIndex[expert] = place
                }
            }
        }
        self.owners = owners
        self.destination = destination
        self.orphans = orphans
        self.subtreeIndex = subtreeIndex
        isAllLocal = destination.allSatisfy { $0 == Self.local }
    }
}
