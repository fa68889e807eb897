// SPDX-License-Identifier: Apache-2.0

/// A weight that a configuration calls for.
package struct ParameterTensor: Hashable, Sendable {
    /// What a weight is for.
    package enum Kind: String, Sendable, Hashable, CaseIterable {
        case embedding, attention, bias, norm, denseMLP = "dense_mlp", router, expert, head

        /// Kept in fp32 whatever the compute type, and without weight decay.
        package var isVector: Bool { self == .norm || self == .bias }
    }

    package let name: TensorName
    package let kind: Kind
    /// Row-major; linear weights are [outputs, inputs].
    package let shape: [Int]
    /// From 0; nil outside the layers.
    package let layer: Int?
    /// From 0; nil unless `kind` is `expert`.
    package let expert: Int?

    package init(name: TensorName, kind: Kind, shape: [Int], layer: Int?, expert: Int?) {
        self.name = name
        self.kind = kind
        self.shape = shape
        self.layer = layer
        self.expert = expert
    }

    package var elementCount: Int { shape.reduce(1, *) }
}

extension Qwen3Configuration {
    /// Every weight, in the order in which transformers lists and shards them (embedding, layers with attention,
    /// MLP and norms, final norm, head). `includesHead`: also the head (a tied model may store `lm_head.weight` too).
    package func parameterTensors(includesHead: Bool) -> [ParameterTensor] {
        var list: [ParameterTensor] = []
        let embeddingShape = [vocabularySize, hiddenSize]
        list.append(.init(name: .embedding, kind: .embedding, shape: embeddingShape, layer: nil, expert: nil))
        for layer in 0..<layerCount { appendLayer(layer, to: &list) }
        list.append(.init(name: .finalNorm, kind: .norm, shape: [hiddenSize], layer: nil, expert: nil))
        if includesHead {
            list.append(
                .init(
                    name: isRewardModel ? .score : .head, kind: .head, shape: [outputCount, hiddenSize], layer: nil,
                    expert: nil))
        }
        return list
    }

    /// Weights without double counting: the head only where it is a matrix of its own.
    package var parameterTensors: [ParameterTensor] { parameterTensors(includesHead: !tieWordEmbeddings) }

    private func appendLayer(_ layer: Int, to list: inout [ParameterTensor]) {
        func add(_ name: TensorName, _ kind: ParameterTensor.Kind, _ shape: [Int], expert: Int? = nil) {
            list.append(.init(name: name, kind: kind, shape: shape, layer: layer, expert: expert))
        }
        let names = TensorName.layer(layer)
        let projections = [
            (names.qProj, [querySize, hiddenSize]), (names.kProj, [keyValueSize, hiddenSize]),
            (names.vProj, [keyValueSize, hiddenSize]), (names.oProj, [hiddenSize, querySize]),
        ]
        for (name, shape) in projections {
            add(name, .attention, shape)
            if attentionBias == .all || attentionBias == .queryKeyValue && name != names.oProj {
                add(name.bias, .bias, [shape[0]])
            }
        }
        if normalizesQueriesAndKeys {
            add(names.qNorm, .norm, [headSize])
            add(names.kNorm, .norm, [headSize])
        }
        if isMoELayer(layer) {
            add(names.router, .router, [expertCount, hiddenSize])
            for expert in 0..<expertCount {
                for projection in TensorName.Projection.allCases {
                    add(
                        names.expert(expert, projection), .expert, expertShape(projection), expert: expert)
                }
            }
        } else {
            add(names.gateProj, .denseMLP, [intermediateSize, hiddenSize])
            add(names.upProj, .denseMLP, [intermediateSize, hiddenSize])
            add(names.downProj, .denseMLP, [hiddenSize, intermediateSize])
        }
        add(names.inputNorm, .norm, [hiddenSize])
        add(names.postAttentionNorm, .norm, [hiddenSize])
    }

    /// Shape of one matrix of an expert.
    package func expertShape(_ projection: TensorName.Projection) -> [Int] {
        projection == .down ? [hiddenSize, moeIntermediateSize] : [moeIntermediateSize, hiddenSize]
    }

    /// How many weights a model of this configuration has; computed, nothing is read.
    package var parameterCounts: ParameterCounts {
        let embedding = vocabularySize * hiddenSize
        let biases =
            switch attentionBias {
            case .none: 0
            case .queryKeyValue: querySize + 2 * keyValueSize
            case .all: querySize + 2 * keyValueSize + hiddenSize
            }
        let attention =
            2 * hiddenSize * (querySize + keyValueSize) + biases + (normalizesQueriesAndKeys ? 2 * headSize : 0)
        let oneExpert = 3 * hiddenSize * moeIntermediateSize
        var (total, active) = (embedding + hiddenSize, embedding + hiddenSize)
        if !tieWordEmbeddings {
            total += outputCount * hiddenSize
            active += outputCount * hiddenSize
        }
        for layer in 0..<layerCount {
            let shared = attention + 2 * hiddenSize
            if isMoELayer(layer) {
                let router = expertCount * hiddenSize
                total += shared + router + expertCount * oneExpert
                active += shared + router + expertsPerToken * oneExpert
            } else {
                total += shared + 3 * hiddenSize * intermediateSize
                active += shared + 3 * hiddenSize * intermediateSize
            }
        }
        let outside = embedding + (tieWordEmbeddings ? 0 : outputCount * hiddenSize)
        return ParameterCounts(total: total, active: active, nonEmbedding: total - outside)
    }
}

/// Numbers of weights; a tied head is counted once.
package struct ParameterCounts: Hashable, Sendable {
    package let total: Int
    /// Those that take part in the computation of one token: K experts per layer instead of E.
    package let active: Int
    /// Without embedding and head.
    package let nonEmbedding: Int
}
