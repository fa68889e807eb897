// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import ClusterTransport

@Suite("Wire header")
struct WireHeaderTests {
    @Test("encoding and decoding are inverse, and the layout is fixed")
    func roundTrip() throws {
        let header = WireHeader(kind: .data, partCount: 3, session: 0x0102_0304_0506_0708, value: 77)
        var bytes = [UInt8](repeating: 0, count: WireHeader.byteCount)
        bytes.withUnsafeMutableBytes { header.encode(into: $0) }
        #expect(Array(bytes[..<8]) == [0x41, 0x50, 0x54, 0x31, 1, 0, 3, 0])
        #expect(bytes.withUnsafeBytes { WireHeader($0) } == header)
    }

    @Test("every truncation and every change of magic, kind or padding is refused")
    func mutations() {
        var bytes = [UInt8](repeating: 0, count: WireHeader.byteCount)
        bytes.withUnsafeMutableBytes { WireHeader(kind: .credit, session: 5, value: 6).encode(into: $0) }
        for count in 0..<WireHeader.byteCount {
            #expect(Array(bytes[..<count]).withUnsafeBytes { WireHeader($0) } == nil)
        }
        for index in 0..<8 {
            for flip in 1...255 {
                var changed = bytes
                changed[index] ^= UInt8(flip)
                let decoded = changed.withUnsafeBytes { WireHeader($0) }
                // Only the kind byte has other valid values.
                #expect(decoded == nil || (index == 4 && decoded?.kind != .credit))
            }
        }
    }
}
