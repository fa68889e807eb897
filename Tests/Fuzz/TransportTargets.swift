// SPDX-License-Identifier: Apache-2.0
import RuntimeSupport

@testable import ClusterTransport

let transportTargets: [FuzzTarget] = [
    FuzzTarget(
        name: "transport-header",
        seeds: {
            [
                WireHeader(kind: .data, partCount: 3, session: 1, value: 100),
                WireHeader(kind: .hello, session: 2, value: 1 << 25), WireHeader(kind: .credit, session: 3, value: 7),
            ].map(encoded)
        },
        run: { bytes in
            bytes.withUnsafeBytes { raw in
                guard let header = WireHeader(raw) else { return }
                require(encoded(header) == bytes, "a header reads back")
            }
        }),
    FuzzTarget(
        name: "bulk-chunks",
        seeds: {
            let peer = PeerIdentity("a")
            return [[0], [5], [300, 300], [1000, 1]].map { sizes in
                Pieces.join(
                    sizes.enumerated().flatMap { index, size in
                        BulkChunker.messages(
                            transfer: UInt64(index), content: Payload([UInt8](repeating: 1, count: size)), to: peer,
                            chunkByteCount: 200
                        ).flatMap { $0.parts.map(\.bytes) }
                    })
            }
        },
        run: { bytes in
            let limit = 4096
            var reassembler = BulkReassembler(
                transferByteCountMax: limit, totalByteCountMax: 2 * limit, openCountMax: 3)
            let pieces = Pieces.split(bytes)
            for index in stride(from: 0, to: pieces.count - 1, by: 2) {
                let parts = [Payload(pieces[index]), Payload(pieces[index + 1])]
                let peer = PeerIdentity(index % 3 == 0 ? "a" : "b")
                let transfer = try? reassembler.accept(Message(peer: peer, channel: .bulk, parts: parts))
                require(transfer?.content.count ?? 0 <= limit, "a transfer keeps its limit")
                require(reassembler.openCount <= 3, "unfinished transfers keep their limit")
            }
        }),
    FuzzTarget(
        name: "keys",
        seeds: {
            let keys = try CurveKeyPair.generate()
            return [
                Array("# mine\npublic \(keys.publicKey.rawValue)\nsecret \(keys.secretKey)\n".utf8),
                Array("# peers\n\(keys.publicKey.rawValue) worker\n\n\(keys.publicKey.rawValue) admin\n".utf8),
            ]
        },
        run: { bytes in
            let text = String(decoding: bytes, as: UTF8.self)
            _ = try? KeyFile.parse(text, "keys")
            _ = try? AllowList(text: text, "allow")
        }),
]

private func encoded(_ header: WireHeader) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: WireHeader.byteCount)
    bytes.withUnsafeMutableBytes { header.encode(into: $0) }
    return bytes
}
