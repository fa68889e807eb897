// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import ExpertParallel
internal import Foundation
internal import PostTraining
internal import Qwen3
internal import SwiftProtobuf

extension TrainingSequence {
    init(_ wire: WireTrainSequence) {
        self.init(
            tokens: wire.tokens.int32Elements, scored: wire.scored.int32Elements,
            advantages: wire.advantages.floatElements, old: wire.old.floatElements,
            reference: wire.reference.floatElements, importance: wire.importance.floatElements,
            policyMask: wire.policyMask.map { $0 != 0 }, crossEntropy: wire.crossEntropy.floatElements,
            divergence: wire.divergence.floatElements)
        routes = [UInt8](wire.routes)
    }
}

extension StepObjective {
    init(_ wire: WireObjectiveSettings) {
        var policy = PolicyGradientOptions()
        policy.form = .init(rawValue: wire.form) ?? .clipped
        policy.ratioLevel = .init(rawValue: wire.ratioLevel) ?? .token
        policy.clipLow = wire.clipLow
        policy.clipHigh = wire.clipHigh
        policy.dualClip = wire.hasDualClip ? wire.dualClip : nil
        policy.klCoefficient = wire.klCoefficient
        policy.klEstimator = .init(rawValue: wire.klEstimator) ?? .k3
        policy.klBiasCorrection = wire.klBiasCorrection
        policy.offPolicyThreshold = wire.hasOffPolicyThreshold ? wire.offPolicyThreshold : nil
        var divisors = StepDivisors()
        divisors.policyTokens = wire.policyTokens
        divisors.policySequences = wire.policySequences
        divisors.crossEntropyWeight = wire.crossEntropyWeight
        divisors.divergenceWeight = wire.divergenceWeight
        self.init(
            policy: policy, aggregation: .init(rawValue: wire.aggregation) ?? .tokenMean,
            constantLength: wire.constantLength, entropyCoefficient: wire.entropyCoefficient, divisors: divisors)
        klInReward = wire.klInReward
        if wire.preferencePairs > 0 {
            preference = PreferenceObjective(
                pairCount: wire.preferencePairs, centerCoefficient: wire.centerRewardsCoefficient)
        }
    }
}

extension TeacherDivergence {
    init(_ wire: WireTeacherSettings) {
        self.init(
            forward: wire.forward, reverse: wire.reverse, symmetric: wire.symmetric, beta: wire.beta,
            temperature: wire.temperature,
            topK: wire.topK == 0 ? nil : TopKDivergence(k: Int(wire.topK), hasTail: wire.hasTail_p))
    }
}

extension SealedGradients {
    func wire(epoch: UInt32, version: UInt64) -> WireStepSealed {
        .with {
            $0.epoch = epoch
            $0.version = version
            $0.segments = segments.map { segment in
                .with {
                    $0.segment = UInt32(segment.index)
                    $0.sumOfSquares = segment.sumOfSquares
                }
            }
            $0.experts = experts.map { expert in
                .with {
                    $0.layer = UInt32(expert.id.layer)
                    $0.expert = UInt32(expert.id.expert)
                    $0.sumOfSquares = expert.sumOfSquares
                }
            }
            $0.cells = cells.map { cell in
                .with {
                    $0.cell = UInt32(cell.index)
                    $0.sums = cell.sums
                    $0.maxima = cell.maxima
                }
            }
            $0.notFinite = problem ?? ""
            $0.expertCounts = expertCounts
        }
    }
}
