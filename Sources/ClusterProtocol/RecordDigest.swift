// SPDX-License-Identifier: Apache-2.0
internal import Crypto
package import Foundation

extension WireUnitResult {
    /// SHA-256 over what any execution of the unit must reproduce bit for bit: tokens, log-probs, routing. Leases,
    /// attempts and outcomes that depend on a clock are left out.
    package var digest: Data {
        var hash = SHA256()
        func add(_ data: Data) {
            withUnsafeBytes(of: UInt64(data.count).littleEndian) { hash.update(bufferPointer: $0) }
            hash.update(data: data)
        }
        func add(_ text: String) { add(Data(text.utf8)) }
        func add(_ number: some BinaryInteger) { add(String(number)) }
        switch record {
        case .rollout(let r):
            add("rollout")
            for number in [UInt64(r.group), UInt64(r.sibling), r.policyVersion] { add(number) }
            for data in [r.tokens, r.logProbs, r.entropies, r.forced, r.routedExperts] { add(data) }
            add(r.finishReason)
        case .score(let r):
            add("score")
            for number in [UInt64(r.group), UInt64(r.sibling), r.policyVersion, UInt64(r.topK)] { add(number) }
            for data in [r.logProbs, r.entropies, r.topIds, r.topLogProbs, r.tailMass, r.fullLogProbs] { add(data) }
        case nil: add("nothing")
        }
        return Data(hash.finalize())
    }
}
