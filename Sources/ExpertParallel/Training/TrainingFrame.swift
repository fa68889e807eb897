// SPDX-License-Identifier: Apache-2.0
internal import ClusterTransport
internal import Qwen3
internal import RuntimeSupport
internal import Tensors

/// What members of a training epoch send each other besides dispatches: a header, then at most one payload of 1 MiB.
struct TrainingFrame {
    enum Kind: UInt16 {
        /// The sender has reached a point of the step; the payload may carry counts, Int64.
        case ready = 0
        /// Part of a partial sum of a segment's gradient, fp32.
        case gradient = 1
        /// New weights of a block, in the compute type (fp32 for norms).
        case weights = 2
    }

    var kind: Kind
    var model: UInt32
    var epoch: UInt32
    /// Version of the weights that the step starts from.
    var version: UInt64
    /// Of `ready` the point; of `gradient` the segment; of `weights` the block.
    var index: Int
    /// Of `gradient`: the subtree of cells.
    var first = 0
    var size = 0
    /// Of `gradient`: first element within the segment.
    var offset = 0
    var elementType: ComputeType = .fp32
    var payload: Payload?

    func encode() -> [Payload] {
        var header = ExchangeHeader(
            kind: .training, compute: elementType,
            topic: ExchangeTopic(model: model, policyVersion: version, layer: kind.rawValue),
            request: UInt64(index) << 32 | UInt64(first), rowCount: 0, width: 1)
        header.entryCount = size
        header.cell = UInt32(offset)
        header.trainingEpoch = epoch
        return header.encode(before: payload.map { [$0] } ?? [])
    }

    init(
        kind: Kind, model: UInt32, epoch: UInt32, version: UInt64, index: Int, first: Int = 0, size: Int = 0,
        offset: Int = 0, elementType: ComputeType = .fp32, payload: Payload? = nil
    ) {
        self.kind = kind
        self.model = model
        self.epoch = epoch
        self.version = version
        self.index = index
        self.first = first
        self.size = size
        self.offset = offset
        self.elementType = elementType
        self.payload = payload
    }

    init(_ parts: [Payload]) throws(FrameError) {
        guard let head = parts.first, parts.count <= 2 else {
            throw FrameError("a training frame of \(parts.count) parts")
        }
        let header = try ExchangeHeader(head)
        guard header.kind == .training, let kind = Kind(rawValue: header.topic.layer) else {
            throw FrameError("not a training frame")
        }
        guard ExchangeHeader.isIntact(parts) else { throw FrameError("checksum mismatch") }
        self.kind = kind
        model = header.topic.model
        epoch = header.trainingEpoch
        version = header.topic.policyVersion
        index = Int(header.request >> 32)
        first = Int(header.request & 0xffff_ffff)
        size = header.entryCount
        offset = Int(header.cell)
        elementType = header.compute
        payload = parts.count == 2 ? parts[1] : nil
    }
}
