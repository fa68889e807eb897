// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol
package import Foundation
internal import SwiftProtobuf

/// What all members' reports on a step come to, in an order of the data, whoever reported what.
package enum StepReduction {
    /// Adds up segments, then experts, then cells.
    ///
    /// - Parameters:
    ///   - clipNorm: largest norm of the gradient; nil: never clipped.
    ///   - isSkipped: see ``StepPlan``.
    package static func prepared(
        _ reports: [WireStepSealed], clipNorm: Double?, learningRate: Double, report: String, isSkipped: Bool,
        job: UInt64, version: UInt64
    ) -> WireStepPrepared {
        var squares = 0.0
        for segment in reports.flatMap(\.segments).sorted(by: { $0.segment < $1.segment }) {
            squares += segment.sumOfSquares
        }
        for expert in reports.flatMap(\.experts).sorted(by: { ($0.layer, $0.expert) < ($1.layer, $1.expert) }) {
            squares += expert.sumOfSquares
        }
        let cells = reports.flatMap(\.cells).sorted { $0.cell < $1.cell }
        var sums = [Double](repeating: 0, count: cells.first?.sums.count ?? 0)
        var maxima = cells.first?.maxima ?? []
        for cell in cells {
            for (index, value) in cell.sums.enumerated() where index < sums.count { sums[index] += value }
            for (index, value) in cell.maxima.enumerated() where index < maxima.count {
                maxima[index] = max(maxima[index], value)
            }
        }
        return .with {
            $0.job = job
            $0.version = version
            $0.sumOfSquares = squares
            // torch.nn.utils.clip_grad_norm_
            $0.gradientScale = clipNorm.map { Float(min(1, $0 / (squares.squareRoot() + 1e-6))) } ?? 1
            $0.learningRate = learningRate
            $0.sums = sums
            $0.maxima = maxima
            $0.report = report
            $0.skipped = isSkipped
        }
    }

    /// Hash of the state after a step: segments in order, then experts by (layer, expert).
    ///
    /// - Parameter applied: with the experts that the member owns.
    package static func digest(_ applied: [(report: WireStepApplied, experts: [Int])]) -> Data {
        var segments: [(UInt32, UInt32)] = []
        var experts: [(layer: Int, expert: Int, checksum: UInt32)] = []
        for (report, owned) in applied {
            segments += zip(report.segmentNumbers, report.segments).map { ($0, $1) }
            for (index, checksum) in report.experts.enumerated() where !owned.isEmpty {
                experts.append((index / owned.count, owned[index % owned.count], checksum))
            }
        }
        segments.sort { $0.0 < $1.0 }
        experts.sort { ($0.layer, $0.expert) < ($1.layer, $1.expert) }
        return StateDigest.of(segments.map(\.1) + experts.map(\.checksum))
    }
}
