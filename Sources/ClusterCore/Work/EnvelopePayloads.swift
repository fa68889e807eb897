// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol
package import ClusterTransport

extension WireEnvelope {
    /// The envelope as message parts of at most 1 MiB.
    package var payloads: [Payload] {
        let bytes = encoded()
        return stride(from: 0, to: max(1, bytes.count), by: 1 << 20).map {
            Payload(bytes[$0..<min(bytes.count, $0 + (1 << 20))])
        }
    }
}
