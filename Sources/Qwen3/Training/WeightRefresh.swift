// SPDX-License-Identifier: Apache-2.0
//
// After an optimizer step the weights that the kernels read are written again in place: rollouts, scores and the next
// forward pass share this one copy, so there is no transfer to get wrong.
internal import CKernels
package import Checkpoints
internal import Glibc
package import RuntimeSupport
package import Tensors

extension Qwen3Model {
    /// Writes some rows of a trunk parameter.
    ///
    /// - Parameters:
    ///   - rows: multiples of 16, or the end; a vector is one row.
    ///   - values: `[rows, columns]` of those rows, fp32; rounded to the compute type where the kernels read that.
    package func refresh(_ tensor: ParameterTensor, rows: Range<Int>, _ values: UnsafePointer<Float>) {
        let columns = tensor.shape.last ?? 1
        switch tensor.kind {
        case .norm, .bias: setVector(tensor, Array(UnsafeBufferPointer(start: values, count: columns)))
        case .embedding:
            let target = trunk.embedding.base + rows.lowerBound * columns * compute.byteCount
            let count = rows.count * columns
            switch compute {
            case .fp32: memcpy(target, values, count * 4)
            case .bf16: ck_f32_to_bf16(values, Int64(count), target.assumingMemoryBound(to: UInt16.self))
            }
            if configuration.tieWordEmbeddings { trunk.head.write(values, rows: rows) }
        case .head: trunk.head.write(values, rows: rows)
        case .attention, .denseMLP, .router: matrix(tensor).write(values, rows: rows)
        case .expert: preconditionFailure("experts are refreshed where they live")
        }
    }

    /// Reads a trunk parameter back as fp32: the values that the kernels compute with, `[elements]`.
    package func values(of tensor: ParameterTensor, into target: UnsafeMutablePointer<Float>) {
        let count = tensor.elementCount
        switch tensor.kind {
        case .norm, .bias:
            let values = vector(tensor)
            target.update(from: values, count: count)
        case .embedding:
            let source = trunk.embedding.base
            switch compute {
            case .fp32: memcpy(target, source, count * 4)
            case .bf16: ck_bf16_to_f32(source.assumingMemoryBound(to: UInt16.self), Int64(count), target)
            }
        case .head: trunk.head.unpack(rows: 0..<tensor.shape[0], into: target)
        case .attention, .denseMLP, .router: matrix(tensor).unpack(rows: 0..<tensor.shape[0], into: target)
        case .expert: preconditionFailure("experts are read where they live")
        }
    }

    private func vector(_ tensor: ParameterTensor) -> [Float] {
        guard let index = tensor.layer else { return trunk.finalNorm }
        var layer = trunk.layers[index]
        return layer.withVector(tensor.name, TensorName.layer(index)) { $0 }
    }

    private func matrix(_ tensor: ParameterTensor) -> PackedMatrix {
        guard let index = tensor.layer else { preconditionFailure("\(tensor.name) belongs to no layer") }
        let (layer, names) = (trunk.layers[index], TensorName.layer(index))
        switch tensor.name {
        case names.qProj: return layer.query
        case names.kProj: return layer.key
        case names.vProj: return layer.value
        case names.oProj: return layer.output
        default: break
        }
        switch layer.feedForward {
        case .mixtureOfExperts(let router): return router
        case .dense(let weights):
            if tensor.name == names.gateProj { return weights.gate }
            return tensor.name == names.upProj ? weights.up : weights.down
        }
    }

    private func setVector(_ tensor: ParameterTensor, _ values: [Float]) {
        var changed = trunk
        if let index = tensor.layer {
            changed.layers[index].withVector(tensor.name, TensorName.layer(index)) { $0 = values }
        } else {
            changed.finalNorm = values
        }
        replaceTrunk(changed)
    }
}

extension DecoderLayerWeights {
    /// Lends a norm's weight or a bias.
    fileprivate mutating func withVector<R>(
        _ name: TensorName, _ names: TensorName.Layer, _ body: (inout [Float]) -> R
    ) -> R {
        switch name {
        case names.inputNorm: return body(&inputNorm)
        case names.postAttentionNorm: return body(&postAttentionNorm)
        case names.qNorm: return body(&headNorms!.query)
        case names.kNorm: return body(&headNorms!.key)
        case names.qProj.bias: return body(&biases.query)
        case names.kProj.bias: return body(&biases.key)
        case names.vProj.bias: return body(&biases.value)
        case names.oProj.bias: return body(&biases.output)
        default: preconditionFailure("\(name) is no vector")
        }
    }
}

extension SwiGLUWeights {
    /// Writes some rows of one matrix of an expert; see ``Qwen3Model/refresh(_:rows:_:)``.
    package func refresh(_ projection: TensorName.Projection, rows: Range<Int>, _ values: UnsafePointer<Float>) {
        switch projection {
        case .gate: gate.write(values, rows: rows)
        case .up: up.write(values, rows: rows)
        case .down: down.write(values, rows: rows)
        }
    }
}

extension SwiGLUWeights {
    /// Reads a matrix of an expert back as fp32.
    package func values(of projection: TensorName.Projection, into target: UnsafeMutablePointer<Float>) {
        let matrix =
            switch projection {
            case .gate: gate
            case .up: up
            case .down: down
            }
        matrix.unpack(rows: 0..<matrix.outputCount, into: target)
    }
}

extension PackedMatrix {
    /// Packs fp32 rows; `values` begins with the first of `rows`.
    fileprivate func write(_ values: UnsafePointer<Float>, rows: Range<Int>) {
        pack(
            from: UnsafeRawPointer(values) - rows.lowerBound * inputCount * 4, stored: .float32, rows: rows)
    }
}

extension WeightLoader {
    /// Master weights: rows of a parameter as fp32, `[rows, columns]`.
    /// - Throws: ``CheckpointError``.
    package func masterRows(
        _ tensor: ParameterTensor, rows: Range<Int>, into target: UnsafeMutablePointer<Float>
    ) throws {
        let columns = tensor.shape.last ?? 1
        if tensor.name == .score, let values = checkpoint.freshHead {
            target.update(from: values, count: columns)
            return
        }
        let view: TensorView
        if tensor.kind == .expert, let layer = tensor.layer, let expert = tensor.expert {
            let names = TensorName.layer(layer)
            let projection = TensorName.Projection.allCases.first { names.expert(expert, $0) == tensor.name }!
            view = try checkpoint.expert(layer: layer, expert: expert, projection)
        } else {
            view = try checkpoint.tensor(tensor.name)
        }
        // A vector is one row.
        let part = tensor.shape.count == 1 ? view : view.rows(rows)
        try part.withFloatBytes(shape: tensor.shape.count == 1 ? tensor.shape : [rows.count, columns]) { from, stored in
            let count = rows.count * columns
            switch stored {
            case .float32: memcpy(target, from, count * 4)
            case .bfloat16: ck_bf16_to_f32(from.assumingMemoryBound(to: UInt16.self), Int64(count), target)
            case .float16: ck_f16_to_f32(from.assumingMemoryBound(to: UInt16.self), Int64(count), target)
            }
        }
    }
}
