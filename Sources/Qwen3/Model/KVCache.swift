// SPDX-License-Identifier: Apache-2.0
internal import Glibc
package import Tensors

/// The pages of keys and values of every sequence a model runs.
///
/// Page `p` of layer `l` holds `pageSize` tokens as `[pageSize, G, D]` in the compute type, keys and values apart.
/// Keys are stored after normalisation and rotation. Attention always reads them back from here, after rounding, in
/// prefill too: that is what makes prefill and decode agree to the bit.
package final class KVCache {
    package let compute: ComputeType
    package let pageCount: Int
    package let pageSize: Int
    package let layerCount: Int
    /// Bytes of one token's keys (or values) in one layer.
    package let tokenByteCount: Int
    private let storage: PageBuffer

    /// - Parameter pageSize: tokens of a page; divides 256, the attention segment.
    /// - Throws: ``MemoryError``.
    package init(
        compute: ComputeType, layerCount: Int, keyValueHeadCount: Int, headSize: Int, pageCount: Int, pageSize: Int
    ) throws(MemoryError) {
        precondition(pageSize > 0 && 256 % pageSize == 0, "page size \(pageSize) does not divide 256")
        self.compute = compute
        self.layerCount = layerCount
        self.pageCount = pageCount
        self.pageSize = pageSize
        tokenByteCount = keyValueHeadCount * headSize * compute.byteCount
        storage = try PageBuffer(byteCount: pageCount * layerCount * 2 * pageSize * tokenByteCount)
    }

    private var pageByteCount: Int { pageSize * tokenByteCount }

    package func keys(layer: Int, page: Int) -> UnsafeMutableRawPointer {
        precondition((0..<pageCount).contains(page))
        return storage.base + (page * layerCount + layer) * 2 * pageByteCount
    }

    package func values(layer: Int, page: Int) -> UnsafeMutableRawPointer {
        keys(layer: layer, page: page) + pageByteCount
    }

    /// Copies all layers of a page: the copy-on-write of a shared, partly filled page.
    package func copyPage(from source: Int, to destination: Int) {
        memcpy(keys(layer: 0, page: destination), keys(layer: 0, page: source), layerCount * 2 * pageByteCount)
    }
}
