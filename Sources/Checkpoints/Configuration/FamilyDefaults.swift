// SPDX-License-Identifier: Apache-2.0

/// What transformers 5 takes where config.json lacks a field and the classes of the families differ.
struct FamilyDefaults {
    /// Nil: as many as query heads.
    let keyValueHeadCount: Int?
    /// Nil: hidden size divided by heads.
    let headSize: Int?
    let maxPositionEmbeddings: Int
    let eosTokenIDs: [Int]

    init(_ modelType: Qwen3Configuration.ModelType) {
        switch modelType {
        case .dense: (keyValueHeadCount, headSize, maxPositionEmbeddings, eosTokenIDs) = (32, 128, 32_768, [])
        case .moe: (keyValueHeadCount, headSize, maxPositionEmbeddings, eosTokenIDs) = (4, nil, 32_768, [])
        case .qwen2: (keyValueHeadCount, headSize, maxPositionEmbeddings, eosTokenIDs) = (32, nil, 32_768, [])
        case .llama: (keyValueHeadCount, headSize, maxPositionEmbeddings, eosTokenIDs) = (nil, nil, 2_048, [2])
        }
    }
}
