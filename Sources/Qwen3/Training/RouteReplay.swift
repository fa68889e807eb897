// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints

/// Recorded choices of the routers for the rows of a cell.
struct RouteReplay {
    /// `[rows, sparse layers, k]`.
    private let chosen: [UInt8]
    private let isRecorded: [Bool]
    private let ordinalOfLayer: [Int]
    private let k: Int
    private let sparseCount: Int

    /// Nil for a cell without records.
    /// - Throws: ``RouteReplayError`` for records of other shapes.
    init?(_ cell: TrainingCell, _ c: Qwen3Configuration) throws(RouteReplayError) {
        guard !cell.routes.isEmpty, c.expertCount > 0 else { return nil }
        k = c.expertsPerToken
        var ordinals: [Int] = []
        var count = 0
        for layer in 0..<c.layerCount {
            ordinals.append(count)
            if c.isMoELayer(layer) { count += 1 }
        }
        ordinalOfLayer = ordinals
        sparseCount = count
        let width = count * k
        var chosen: [UInt8] = []
        var isRecorded: [Bool] = []
        chosen.reserveCapacity(cell.rowCount * width)
        for (place, tokens) in cell.sequences.enumerated() {
            let routes = cell.routes[place]
            guard routes.count == (tokens.count - 1) * width, routes.allSatisfy({ $0 < c.expertCount }) else {
                throw RouteReplayError()
            }
            chosen += routes[(cell.shared[place] * width)...]
            isRecorded += [Bool](repeating: true, count: tokens.count - 1 - cell.shared[place])
            // Nothing was computed for a sequence's last token.
            chosen += [UInt8](repeating: 0, count: width)
            isRecorded.append(false)
        }
        self.chosen = chosen
        self.isRecorded = isRecorded
    }

    func experts(row: Int, layer: Int) -> ArraySlice<UInt8>? {
        guard isRecorded[row] else { return nil }
        let first = (row * sparseCount + ordinalOfLayer[layer]) * k
        return chosen[first..<first + k]
    }
}

/// Recorded routes that are not this model's.
package struct RouteReplayError: Error, CustomStringConvertible {
    package var description: String { "the recorded routes do not fit the model's layers and experts" }
}
