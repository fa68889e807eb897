// SPDX-License-Identifier: Apache-2.0
package import Checkpoints

/// Where each of a set of parameters lies in one flat fp32 vector: gradients, master weights and moments all have this
/// form. Tensors are row-major, in transformers' order, each at a multiple of 16 elements.
package struct ParameterLayout: Sendable {
    package struct Entry: Sendable {
        package let tensor: ParameterTensor
        /// First element in the vector.
        package let offset: Int
        /// Vectors count as one row.
        package let rows: Int
        package let columns: Int
        /// Whether weight decay applies: to all but norms and biases, as the Hugging Face trainer groups them.
        package var decays: Bool { !tensor.kind.isVector }
        package var elementCount: Int { rows * columns }
    }

    /// A piece of one tensor: whole rows, a multiple of 16 of them but for the last piece. The unit in which norms are
    /// added and optimizer state is shared out.
    package struct Block: Sendable, Hashable {
        package let entry: Int
        package let rows: Range<Int>
        /// First element in the vector.
        package let offset: Int
        package let count: Int
    }

    /// Elements of a block, about.
    package static let blockElementCount = 65_536

    package let entries: [Entry]
    package let blocks: [Block]
    /// Elements of the vector.
    package let count: Int
    private let indexOfName: [TensorName: Int]

    package init(_ tensors: [ParameterTensor]) {
        var entries: [Entry] = []
        var blocks: [Block] = []
        var offset = 0
        for (index, tensor) in tensors.enumerated() {
            let rows = tensor.shape.count == 1 ? 1 : tensor.shape[0]
            let columns = tensor.shape.last ?? 1
            entries.append(Entry(tensor: tensor, offset: offset, rows: rows, columns: columns))
            let blockRows = max(16, Self.blockElementCount / max(columns, 1) / 16 * 16)
            for first in stride(from: 0, to: rows, by: blockRows) {
                let taken = first..<min(rows, first + blockRows)
                blocks.append(
                    Block(
                        entry: index, rows: taken, offset: offset + first * columns, count: taken.count * columns))
            }
            offset += (rows * columns + 15) / 16 * 16
        }
        self.entries = entries
        self.blocks = blocks
        count = offset
        indexOfName = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.tensor.name, $0) })
    }

    /// Everything but experts.
    package static func trunk(of configuration: Qwen3Configuration) -> ParameterLayout {
        ParameterLayout(configuration.parameterTensors.filter { $0.kind != .expert })
    }

    /// One expert of one layer.
    package static func expert(
        of configuration: Qwen3Configuration, layer: Int, expert: Int
    ) -> ParameterLayout {
        let names = TensorName.layer(layer)
        return ParameterLayout(
            TensorName.Projection.allCases.map {
                ParameterTensor(
                    name: names.expert(expert, $0), kind: .expert, shape: configuration.expertShape($0), layer: layer,
                    expert: expert)
            })
    }

    package subscript(_ name: TensorName) -> Entry {
        guard let index = indexOfName[name] else { preconditionFailure("\(name) is not in this layout") }
        return entries[index]
    }
}
